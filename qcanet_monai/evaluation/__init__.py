"""Scoring of label images, baseline methods and their comparison."""
