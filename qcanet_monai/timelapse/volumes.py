"""Segmented volume over time, and its relative error (Mikeščíková 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcanet_monai.errors import InputError
from qcanet_monai.io import read_csv, read_labels, write_csv
from qcanet_monai.io.names import Frame, frames_of, group_series, interval_of, label_stem, list_images
from qcanet_monai.io.tables import Row
from qcanet_monai.timelapse.criteria import stated_interval

COLUMNS = ("image", "series", "frame", "time_h", "volume_um3", "reference_um3", "relative_error")


def volumes_over_time(
    prediction: Path,
    reference: Path | None = None,
    *,
    spacing: Sequence[float] | None = None,
    interval_min: float | None = None,
) -> list[Row]:
    """Compute the total labelled volume of each image, in temporal order.

    Returns rows of `COLUMNS`. The relative error is |V - V_ref| / V_ref, NaN if V_ref is unknown or 0.

    Parameters
    ----------
    prediction
        Output folder of `segment`, or label images.
    reference
        Label images with the same names, or a CSV file with the columns ``image`` and ``volume_um3``;
        optional.
    spacing
        Voxel size (z, y, x) in µm, for label images that do not state it.
    interval_min
        Minutes between frames; by default as stated by the folder or the first file, else hours are NaN.

    Raises
    ------
    InputError
        If a folder holds no labels, or the reference lacks an image.
    """
    found, images = _volumes(prediction, spacing)
    known = _reference(reference, spacing) if reference is not None else {}
    missing = sorted(set(found) - set(known)) if reference is not None else []
    if missing:
        raise InputError(
            f"expected a reference in {reference} for every image, {len(missing)} are missing, the first is "
            f"{missing[0]}"
        )
    step = interval_min or stated_interval(prediction) or interval_of(images)
    rows: list[Row] = []
    for series in group_series(found):
        hours = series.times_h(step or math.nan)
        for stem, frame, time in zip(series.stems, series.frames, hours, strict=True):
            volume, true = found[stem], known.get(stem, math.nan)
            error = abs(volume - true) / true if true > 0 else math.nan
            rows.append(
                dict(zip(COLUMNS, (stem, series.name, frame, time, volume, true, error), strict=True))
            )
    return rows


def _volumes(source: Path, spacing: Sequence[float] | None) -> tuple[dict[str, float], list[Path | Frame]]:
    """Return the labelled volume in µm³ per image stem, and the images."""
    if not source.exists():
        raise InputError(f"{source} does not exist")
    files = list_images([source])
    labels = [path for path in files if path.name.endswith("_labels.tif")]
    images = frames_of(labels or files)
    volumes = {}
    for image in images:
        path, frame = image if isinstance(image, Frame) else (image, None)
        volume = read_labels(path, spacing=spacing, frame=frame)
        volumes[label_stem(image)] = float(np.count_nonzero(volume.array) * np.prod(volume.spacing))
    return volumes, images


def _reference(source: Path, spacing: Sequence[float] | None) -> dict[str, float]:
    if source.suffix.lower() != ".csv":
        return _volumes(source, spacing)[0]
    table = read_csv(source)
    if not {"image", "volume_um3"} <= table.keys():
        raise InputError(f"expected the columns image and volume_um3 in {source}, got {', '.join(table)}")
    return {str(name): float(v) for name, v in zip(table["image"], table["volume_um3"], strict=True)}


def write_volumes(rows: Sequence[Row], path: Path) -> None:
    """Write the rows of `volumes_over_time` as CSV."""
    write_csv(path, list(rows), header=list(COLUMNS))
