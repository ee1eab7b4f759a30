"""Datasets: BBBC050, Cell Tracking Challenge, one's own, simulated."""
