"""MONAI transforms over `core` and `io`, and training datasets."""
