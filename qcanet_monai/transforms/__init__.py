"""MONAI transforms: thin shells over core and io."""
