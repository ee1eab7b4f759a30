"""Figures and an HTML page of segmented or tracked embryos."""
