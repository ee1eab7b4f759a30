"""Quantitative criteria of time series, from segmentation or tracking tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.measure.criteria import centroids_of, space_fill, timepoint_criteria
from qcanet_monai.core.measure.nuclei import Table, nucleus_table
from qcanet_monai.core.measure.stages import STAGES, Synchrony, stage_durations, stage_of, synchrony
from qcanet_monai.errors import InputError
from qcanet_monai.io import output_folder, read_csv, read_labels, write_csv
from qcanet_monai.io.label_digests import edited_labels
from qcanet_monai.io.names import Frame, Series, frames_of, group_series, interval_of, label_stem, list_images
from qcanet_monai.io.tables import Row

_CLOCKS = ("embryo", "frame", "time_h", "aligned_h", "stage")
_NOT_AVERAGED = (*_CLOCKS, "centre_z_um", "centre_y_um", "centre_x_um")  # positions differ between embryos
SHELL_UM = 5.0
"""Thickness in µm of the shells of the space fill factor."""


@dataclass(frozen=True)
class Embryo:
    """Series of one embryo with its criteria.

    Attributes
    ----------
    name, series
        Name and images of the series.
    timepoints
        A row per time point: ``frame``, ``time_h``, ``stage`` and the columns of ``core.measure.criteria``.
    stages, synchrony
        See ``core.measure.stages``.
    centroids_um
        Centroids (n, 3) in µm, axes (z, y, x), per time point.
    """

    name: str
    series: Series
    timepoints: list[Row]
    stages: Table
    synchrony: Synchrony
    centroids_um: list[NDArray[np.float64]]


def read_embryos(
    source: str | Path, *, interval_min: float | None = None, spacing: Sequence[float] | None = None
) -> list[Embryo]:
    """Compute the criteria of every series in a folder or label image.

    Parameters
    ----------
    source
        Output folder of ``qcanet segment`` or ``qcanet track``, with ``nuclei.csv`` and ``timepoints.csv``;
        or label images: a folder, one file or one OME-Zarr image.
    interval_min
        Minutes between frames; by default as stated by ``run.json`` or the image file. Times in the images'
        names take precedence.
    spacing
        Voxel size (z, y, x) in µm, for label images that do not state it.

    Raises
    ------
    InputError
        If the source holds neither tables nor label images, a table lacks a column, or a series of several
        frames has no known interval.
    """
    source = Path(source)
    tabled = (source / "nuclei.csv").is_file()
    images = [] if tabled else frames_of(list_images([source]))
    nuclei, stems = read_tables(source) if tabled else _measured(images, spacing)
    interval_min = interval_min or stated_interval(source) or interval_of(images)
    embryos = []
    for series in group_series(stems):
        if interval_min is None and series.hours is None and len(series.frames) > 1:
            raise InputError(
                f"expected the time between frames of {series.name} ({len(series.frames)} frames), which "
                f"{source} does not state: give it with --interval-min MINUTES"
            )
        embryos.append(_embryo(series, nuclei, interval_min or 60.0))
    return embryos


def write_criteria(embryos: Sequence[Embryo], out: str | Path, *, blastocyst_h: Mapping[str, float]) -> None:
    """Write the criteria of all embryos as CSV tables.

    Writes ``timepoints.csv`` (a row per embryo and frame), ``stages.csv``, ``embryos.csv``,
    ``space_fill.csv`` and ``mean.csv``, see `means_over_embryos`.

    Parameters
    ----------
    embryos
        Embryos from one or several folders; names must be unique.
    out
        Output folder.
    blastocyst_h
        Hours at which embryos, by name, reached the blastocyst stage: the zero of ``aligned_h``, which is
        NaN for other embryos. If any are given, ``mean.csv`` uses ``aligned_h``, else ``time_h``.

    Raises
    ------
    InputError
        If two embryos share a name, or `blastocyst_h` names an unknown embryo.
    OutputError
        If the folder is not writable.
    """
    names = [embryo.name for embryo in embryos]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"expected embryos of different names, got {', '.join(sorted(twice))} twice: rename")
    unknown = set(blastocyst_h) - set(names)
    if unknown:
        raise InputError(
            f"expected a blastocyst time for one of {', '.join(names)}, got {', '.join(sorted(unknown))}"
        )
    folder = output_folder(out)
    rows = [
        {"embryo": embryo.name, **_aligned(row, blastocyst_h.get(embryo.name))}
        for embryo in embryos
        for row in embryo.timepoints
    ]
    write_csv(folder / "timepoints.csv", rows)
    write_csv(folder / "stages.csv", [row for embryo in embryos for row in _stage_rows(embryo)])
    write_csv(folder / "embryos.csv", [_embryo_row(embryo) for embryo in embryos])
    write_csv(folder / "space_fill.csv", [row for embryo in embryos for row in _shells(embryo)])
    write_csv(folder / "mean.csv", means_over_embryos(rows, "aligned_h" if blastocyst_h else "time_h"))


def _embryo(series: Series, nuclei: Table, interval_min: float) -> Embryo:
    stems = nuclei["image"].astype(str)
    parts = [{name: column[stems == stem] for name, column in nuclei.items()} for stem in series.stems]
    hours = series.times_h(interval_min)
    dated = series.hours is not None and len(hours) > 1
    steps = np.r_[np.diff(hours), np.median(np.diff(hours))] if dated else interval_min / 60
    found = [timepoint_criteria(part) for part in parts]
    counts = [row["n_nuclei"] for row in found]
    rows = [
        {"frame": frame, "time_h": hour, "stage": stage, **row}
        for frame, hour, stage, row in zip(
            series.frames, hours, stage_of(counts).tolist(), found, strict=True
        )
    ]
    durations = stage_durations(counts, hours, interval_h=steps)
    centroids = [centroids_of(part) for part in parts]
    return Embryo(series.name, series, rows, durations, synchrony(durations), centroids)


def read_tables(folder: Path) -> tuple[Table, list[str]]:
    """Read the nuclei of all images, with a column ``image``, and the images' stems.

    Raises
    ------
    InputError
        If a table is missing or lacks a column, or label images were edited since they were measured.
    """
    if not (folder / "nuclei.csv").is_file():
        raise InputError(f"expected nuclei.csv in {folder}, got none: give the output of `qcanet segment`")
    tables = [read_csv(folder / name) for name in ("nuclei.csv", "timepoints.csv")]
    for name, table in zip(("nuclei.csv", "timepoints.csv"), tables, strict=True):
        lacking = {"image", *(("label", "confidence") if name == "nuclei.csv" else ())} - set(table)
        if lacking:
            raise InputError(
                f"expected a column `{min(lacking)}` in {folder / name}, got none: run `qcanet segment` "
                "of this version again"
            )
    edited = edited_labels(folder)
    if edited:
        inside = edited[0].parent == folder
        mend = f"qcanet measure {folder}" if inside else f"qcanet track {folder.parent}"
        raise InputError(
            f"expected tables that describe the label images, {edited[0]} was edited since: run `{mend}`"
        )
    return tables[0], [*dict.fromkeys(tables[1]["image"].astype(str).tolist())]


def _measured(images: Sequence[Path | Frame], spacing: Sequence[float] | None) -> tuple[Table, list[str]]:
    """Measure label images; return a table and stems as `read_tables` does."""
    stems = [label_stem(image) for image in images]
    found = []
    for image, stem in zip(images, stems, strict=True):
        path, frame = image if isinstance(image, Frame) else (image, None)
        volume = read_labels(path, spacing=spacing, frame=frame)
        table = nucleus_table(volume.array, spacing=volume.spacing)
        found.append({"image": np.full(len(table["label"]), stem), **table})
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}, stems


def stated_interval(folder: Path) -> float | None:
    """Return ``interval_min`` of ``run.json`` in a folder or its parent, or None."""
    for place in (folder, folder.parent):
        try:
            stated = json.loads((place / "run.json").read_text(encoding="utf-8")).get("interval_min")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(stated, int | float) and stated > 0:
            return float(stated)
    return None


def _aligned(row: Row, blastocyst_h: float | None) -> Row:
    hours = math.nan if blastocyst_h is None else row["time_h"] - blastocyst_h
    return {"frame": row["frame"], "time_h": row["time_h"], "aligned_h": hours, **row}


def _stage_rows(embryo: Embryo) -> list[Row]:
    rows = zip(*embryo.stages.values(), strict=True)
    return [{"embryo": embryo.name, **dict(zip(embryo.stages, row, strict=True))} for row in rows]


def _embryo_row(embryo: Embryo) -> Row:
    reached = [name for name, yes in zip(STAGES, embryo.stages["reached"], strict=True) if yes]
    return {
        "embryo": embryo.name,
        "n_frames": len(embryo.timepoints),
        "n_frames_missing": len(embryo.series.missing),
        "last_stage": reached[-1] if reached else "",
        "most_nuclei": max(row["n_nuclei"] for row in embryo.timepoints),
        "in_between_share": embryo.synchrony.in_between_share,
        "three_cell_h": embryo.synchrony.three_cell_h,
        "asynchronous": int(embryo.synchrony.asynchronous),
    }


def _shells(embryo: Embryo) -> list[Row]:
    farthest = max((row["radius_um"] for row in embryo.timepoints if row["n_nuclei"]), default=0.0)
    edges = np.arange(math.floor(farthest / SHELL_UM) + 2) * SHELL_UM
    counts = space_fill(embryo.centroids_um, edges_um=edges)
    return [
        {"embryo": embryo.name, "from_um": low, "to_um": high, "n_centroids": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def means_over_embryos(rows: Sequence[Row], clock: str = "time_h") -> list[Row]:
    """Compute mean and spread of criteria over embryos, per time in column `clock`.

    Times are in hours. The spread is the standard deviation with n - 1. NaN values are ignored.
    """
    known = [row for row in rows if not math.isnan(row[clock])]
    names = [name for name in known[0] if name not in _NOT_AVERAGED] if known else []
    out: list[Row] = []
    # round to seconds: ten minutes are not an exact binary fraction of an hour
    for second in sorted({round(row[clock] * 3600) for row in known}):
        here = [row for row in known if round(row[clock] * 3600) == second]
        row: Row = {clock: second / 3600, "n_embryos": len(here)}
        for name in names:
            values = np.array([one[name] for one in here], float)
            values = values[~np.isnan(values)]
            row[f"mean_over_embryos_{name}"] = values.mean() if len(values) else math.nan
            row[f"sd_over_embryos_{name}"] = values.std(ddof=1) if len(values) > 1 else math.nan
        out.append(row)
    return out
