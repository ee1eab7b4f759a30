"""Fit the networks to a microscope without labels."""
