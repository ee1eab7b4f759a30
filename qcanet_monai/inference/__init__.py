"""From an image to probabilities."""
