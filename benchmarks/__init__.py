"""Ratios of this project against plainer ways, each measured in one run."""
