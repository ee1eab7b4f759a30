"""Datasets: BBBC050, Cell Tracking Challenge, your own, simulated."""
