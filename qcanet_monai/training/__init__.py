"""Handlers, metrics and bundle export for training."""
