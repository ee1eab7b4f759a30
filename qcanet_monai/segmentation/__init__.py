"""Segmentation of images into labelled objects, their tables and output files."""
