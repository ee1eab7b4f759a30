"""The tables of a batch, `nuclei.csv` and `timepoints.csv`: a row per object and per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qcanet_monai.core.instances.instances import Instances
from qcanet_monai.errors import OutputError
from qcanet_monai.io import read_csv, write_csv
from qcanet_monai.io.names import Frame, image_stem
from qcanet_monai.io.tables import Row
from qcanet_monai.segmentation.image_job import timepoint_row
from qcanet_monai.segmentation.result import Method, Segmentation, measure


def headers_of(method: Method) -> dict[str, list[str]]:
    """The tables and their columns, taken from what an image without nuclei gives."""
    nothing = Instances(np.zeros((1, 1, 1), np.uint16))
    table = measure(nothing, spacing=(1.0, 1.0, 1.0), uncertain=method.n_samples > 0)
    found = Segmentation(nothing.labels, table, integral=0.0 if method.counts else None)
    return columns_of(found)


def columns_of(found: Segmentation) -> dict[str, list[str]]:
    """Columns of each table, as one result has them."""
    return {
        "nuclei.csv": ["image", "frame", *found.table],
        "timepoints.csv": ["image", "frame", *timepoint_row(found, 0.0)],
    }


def check_tables(output: Path, headers: Mapping[str, list[str]]) -> None:
    """Refuse, before any work, a folder whose tables cannot be gone on with."""
    for name, header in headers.items():
        path = output / name
        if path.exists() and list(read_csv(path)) != header:
            raise OutputError(f"{path} holds a table with other columns: move it away or give another folder")


def write_tables(
    output: Path,
    images: Sequence[Path | Frame],
    found: Mapping[Path | Frame, tuple[list[Row], Row]],
    headers: Mapping[str, list[str]],
) -> None:
    """Write the rows of the images that are done."""
    nuclei: list[Row] = []
    timepoints: list[Row] = []
    for index, image in enumerate(images):
        if image in found:
            name, (rows, timepoint) = {"image": image_stem(image), "frame": index}, found[image]
            nuclei += [name | row for row in rows]
            timepoints.append(name | timepoint)
    stems = set(map(image_stem, found))
    for table, content in (("nuclei.csv", nuclei), ("timepoints.csv", timepoints)):
        _update_csv(output / table, content, stems, headers[table])


def _update_csv(path: Path, rows: list[Row], stems: set[str], header: list[str]) -> None:
    """Replace the rows of the images `stems`; those of other images, from an earlier run, stay."""
    kept: list[Row] = []
    if path.exists():
        old = read_csv(path)
        others = (dict(zip(old, row, strict=True)) for row in zip(*old.values(), strict=True))
        kept = [row for row in others if str(row["image"]) not in stems]
    write_csv(path, kept + rows, header=header)
