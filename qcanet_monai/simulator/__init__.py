"""Simulated embryos, tissues, cells and spindles with their ground truth."""
