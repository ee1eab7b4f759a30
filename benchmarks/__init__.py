"""Benchmarks of the package against simpler methods, each ratio from one run."""
