"""A MONAI bundle as one object."""
