"""Output files of a batch: images per input, and rows per nucleus and per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.instances.instances import Labels
from qcanet_monai.core.measure.criteria import timepoint_criteria
from qcanet_monai.core.measure.nuclei import Table
from qcanet_monai.errors import OutputError
from qcanet_monai.io import Volume, read_csv, write_csv, write_labels
from qcanet_monai.io.names import Frame, image_stem
from qcanet_monai.io.tables import Row
from qcanet_monai.plot.overlay import write_overlay


def files_of(output: Path, stem: str, *, uncertain: bool) -> list[Path]:
    """List an image's label, overlay and, if `uncertain`, uncertainty files."""
    kinds = ["labels.tif", "overlay.png"] + (["uncertainty.png"] if uncertain else [])
    return [output / f"{stem}_{kind}" for kind in kinds]


def write_files(
    files: Sequence[Path],
    volume: Volume,
    labels: Labels,
    table: Table,
    *,
    title: str,
    spread: NDArray[np.float32] | None = None,
) -> None:
    """Write an image's files to paths of `files_of`; raise OutputError on failure.

    `labels` and `spread` have the volume's shape (Z, Y, X).
    """
    label_image, overlay, *maps = files
    write_labels(label_image, labels, spacing=volume.spacing)
    write_overlay(overlay, volume.array, labels, spacing=volume.spacing, title=title)
    for path in maps:
        from qcanet_monai.plot.uncertainty_map import write_uncertainty_map  # slow import

        values = table["uncertainty_um"].astype(np.float64)
        write_uncertainty_map(
            path, volume.array, labels, values, spacing=volume.spacing, title=title, spread=spread
        )


def nucleus_rows(table: Table) -> list[Row]:
    """Convert a table of columns to a list of rows."""
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def timepoint_row(table: Table, integral: float | None, seconds: float) -> Row:
    """Return the criteria of one image's nuclei, and the processing time in seconds."""
    counted = {} if integral is None else {"integral_n_nuclei": integral}
    return {**timepoint_criteria(table), **counted, "seconds": seconds}


def columns_of(table: Table, integral: float | None) -> dict[str, list[str]]:
    """Return the columns of each CSV file, given an image's table and integral."""
    return {
        "nuclei.csv": ["image", "frame", *table],
        "timepoints.csv": ["image", "frame", *timepoint_row(table, integral, 0.0)],
    }


def check_tables(output: Path, headers: Mapping[str, list[str]]) -> None:
    """Raise OutputError if a table in the folder has other columns."""
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
    """Write the rows of the finished images; keep the rows of all other images."""
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
    """Replace the rows of the images `stems`; keep all other rows."""
    kept: list[Row] = []
    if path.exists():
        old = read_csv(path)
        others = (dict(zip(old, row, strict=True)) for row in zip(*old.values(), strict=True))
        kept = [row for row in others if str(row["image"]) not in stems]
    write_csv(path, kept + rows, header=header)
