"""Measurements of objects and embryos."""
