"""QCANet on MONAI: nuclei of 3-D embryo images segmented, counted and measured."""

__version__ = "0.1.0"
