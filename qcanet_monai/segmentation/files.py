"""Output files of a batch: images per input, and rows per nucleus and per image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.instances.instances import Labels
from qcanet_monai.core.measure.criteria import timepoint_criteria
from qcanet_monai.core.measure.evidence import NO_EVIDENCE, Evidence
from qcanet_monai.core.measure.nuclei import Table
from qcanet_monai.core.scale import Scale
from qcanet_monai.errors import OutputError
from qcanet_monai.io import Volume, read_csv, write_csv, write_labels
from qcanet_monai.io.label_digests import record_labels
from qcanet_monai.io.names import Frame, image_stem, natural_key
from qcanet_monai.io.tables import Row
from qcanet_monai.plot.overlay import write_overlay
from qcanet_monai.segmentation.result_cache import Finished


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
    keep_labels: bool = False,
) -> None:
    """Write an image's files to paths of `files_of`; raise OutputError on failure.

    `labels` and `spread` have the volume's shape (Z, Y, X). `keep_labels` omits the label file.
    """
    label_image, overlay, *maps = files
    if not keep_labels:
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


def timepoint_row(table: Table, integral: float | None, seconds: float, shown: Evidence = NO_EVIDENCE) -> Row:
    """Return the criteria of one image's nuclei, their contrast, and the time taken."""
    counted = {} if integral is None else {"integral_n_nuclei": integral}
    return {**timepoint_criteria(table), **counted, **shown._asdict(), "seconds": seconds}


def scale_of(scale: Scale | None) -> dict[str, Any]:
    """Return a scale as ``run.json`` states it."""
    if scale is None or math.isnan(scale.diameter_um):
        return {}
    return {name: float(value) for name, value in scale._asdict().items() if math.isfinite(value)}


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
    found: Mapping[Path | Frame, Finished],
    headers: Mapping[str, list[str]],
    labels: Iterable[Path],
    *,
    others: bool = True,
) -> None:
    """Write the rows of the finished images; with `others`, keep those of others.

    All images are in natural order; the frame counts them from 0, those that failed included. The digests of
    the label images are recorded, so that later edits are noticed.
    """
    nuclei = _kept(output / "nuclei.csv", found) if others else []
    timepoints = _kept(output / "timepoints.csv", found) if others else []
    for image, (rows, timepoint, *_) in found.items():
        name: Row = {"image": image_stem(image), "frame": 0}
        nuclei += [name | row for row in rows]
        timepoints.append(name | timepoint)
    known = {*map(image_stem, images), *(str(row["image"]) for row in timepoints)}
    places = {stem: place for place, stem in enumerate(sorted(known, key=natural_key))}
    for table, content in (("nuclei.csv", nuclei), ("timepoints.csv", timepoints)):
        for row in content:
            row["frame"] = places[str(row["image"])]
        content.sort(key=lambda row: int(row["frame"]))
        write_csv(output / table, content, header=headers[table])
    record_labels(output, labels)


def _kept(path: Path, found: Iterable[Path | Frame]) -> list[Row]:
    """Return the rows of a table that are of other images."""
    if not path.exists():
        return []
    stems, old = set(map(image_stem, found)), read_csv(path)
    others = (dict(zip(old, row, strict=True)) for row in zip(*old.values(), strict=True))
    return [row for row in others if str(row["image"]) not in stems]


def read_run(output: Path) -> dict[str, Any]:
    """Return the content of ``run.json``; empty if missing or damaged."""
    try:
        found = json.loads((output / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def others_of(run: Mapping[str, Any], images: Iterable[Path | Frame], part: str) -> dict[str, Any]:
    """Return an earlier run's values by image of images that are not in this one."""
    stems = set(map(image_stem, images))
    return {name: value for name, value in run.get(part, {}).items() if _stem(name) not in stems}


def _stem(name: str) -> str:
    return image_stem(image_of(name))


def image_of(name: str) -> Path | Frame:
    """Return an image that ``run.json`` names."""
    path, comma, number = name.rpartition(", frame ")
    return Frame(Path(path), int(number)) if comma and number.isdecimal() else Path(name)
