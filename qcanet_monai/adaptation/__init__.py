"""Adaptation of the networks to a microscope without labels."""
