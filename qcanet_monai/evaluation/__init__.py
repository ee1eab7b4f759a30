"""Metrics over files, baselines and their comparison."""
