"""Inference: from an image to probabilities."""
