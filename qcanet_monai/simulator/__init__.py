"""Simulated embryos, tissues, cells and spindles: time series of images with their truth."""
