"""Figures of volumes and label images."""
