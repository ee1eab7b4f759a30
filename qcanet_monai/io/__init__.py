"""Readers and writers of volumes, tables and datasets."""

from qcanet_monai.io.arrays import as_volume
from qcanet_monai.io.atomic import output_folder, replacing
from qcanet_monai.io.save import write_labels, write_volume
from qcanet_monai.io.spacing import check_spacing
from qcanet_monai.io.tables import read_csv, write_csv, write_json
from qcanet_monai.io.volume import (
    IMAGE_SUFFIXES,
    Volume,
    check_content,
    count_frames,
    read_labels,
    read_volume,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "Volume",
    "as_volume",
    "check_content",
    "check_spacing",
    "count_frames",
    "output_folder",
    "read_csv",
    "read_labels",
    "read_volume",
    "replacing",
    "write_csv",
    "write_json",
    "write_labels",
    "write_volume",
]
