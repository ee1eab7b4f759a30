"""Bundles: configuration, weights, model cards; no code."""
