"""Instances from network probabilities."""
