"""Promotion of trained bundles to registered model versions."""
