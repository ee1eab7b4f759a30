"""MONAI bundles."""
