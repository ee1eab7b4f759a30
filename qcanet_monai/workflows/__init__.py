"""Whole jobs: simulate, train, segment, evaluate."""
