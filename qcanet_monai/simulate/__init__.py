"""Simulated embryos: time series of images with their truth."""
