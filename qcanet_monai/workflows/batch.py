"""Segment files: labels, overlays and tables in one folder, each whole or not there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qcanet_monai
from qcanet_monai.core.watershed import Instances
from qcanet_monai.errors import InputError, OutputError, QCANetError
from qcanet_monai.io import (
    output_folder,
    read_csv,
    read_volume,
    write_csv,
    write_json,
    write_labels,
    write_overlay,
)
from qcanet_monai.io.names import stem_of
from qcanet_monai.workflows.segment import Segmentation, Segmenter, measure

Row = dict[str, Any]
_WORKERS = 4  # at most, where nobody says: more would hide no more of what is not parallel


@dataclass
class BatchResult:
    """What became of each file: nuclei found, or the reason why not."""

    counts: dict[Path, int] = field(default_factory=dict)
    failures: dict[Path, str] = field(default_factory=dict)

    def raise_failures(self) -> None:
        """Raise one error that names every file that failed.

        Raises
        ------
        InputError
            If there is any.
        """
        if self.failures:
            raise InputError("; ".join(self.failures.values()))


def segment_files(
    images: Sequence[Path],
    output: str | Path,
    segmenter: Segmenter,
    *,
    spacing: Sequence[float] | None = None,
    channel: int | None = None,
    frame: int | None = None,
    workers: int | None = None,
    progress: Callable[[Path], None] = lambda _path: None,
) -> BatchResult:
    """Segment image files into a folder.

    Writes ``STEM_labels.tif`` and ``STEM_overlay.png`` per image and, over all images, ``nuclei.csv`` (a
    row per nucleus), ``timepoints.csv`` (a row per image) and ``run.json``. A bad file costs only itself;
    an image segmented again is replaced, and what an earlier run wrote of other images stays.

    Parameters
    ----------
    images
        Image files; stems must be unique.
    output
        Folder for the results, made if absent; removed again if nothing was written into it.
    segmenter
        The models and settings.
    spacing, channel, frame
        See ``read_volume``.
    workers
        Images under work at the same time, each with its share of the cores; as many as there are cores, up
        to 4, if None. What one of them reads, divides or writes then costs the others no time.
    progress
        Called after each file.

    Raises
    ------
    OutputError
        If the folder cannot be written to, or holds tables of other columns.
    """
    output = Path(output)
    existed = output.is_dir()
    output_folder(output)
    result = BatchResult()
    nuclei: list[Row] = []
    timepoints: list[Row] = []
    _check_tables(output)
    try:
        with _side_by_side(workers, len(images)) as submit:
            jobs = [
                submit(_segment_one, path, index, output, segmenter, spacing, channel, frame)
                for index, path in enumerate(images)
            ]
            for path, job in zip(images, jobs, strict=True):
                try:
                    rows, timepoint = job.result()
                except QCANetError as error:
                    result.failures[path] = str(error)
                    continue
                finally:
                    progress(path)
                result.counts[path] = len(rows)
                nuclei += rows
                timepoints.append(timepoint)
        if result.counts:
            stems = {stem_of(path) for path in result.counts}
            _update_csv(output / "nuclei.csv", nuclei, stems)
            _update_csv(output / "timepoints.csv", timepoints, stems)
            write_json(output / "run.json", _run(segmenter, result, spacing, channel, frame))
    finally:
        if not existed and not result.counts:
            with contextlib.suppress(OSError):  # not empty, or never made: then it is not ours to remove
                output.rmdir()
    return result


@contextlib.contextmanager
def _side_by_side(workers: int | None, images: int) -> Iterator[Callable[..., Future[Any]]]:
    """Run jobs in threads that share the cores; those not begun are dropped where one fails."""
    threads = torch.get_num_threads()
    number = max(min(workers or min(threads, _WORKERS), images), 1)
    pool = ThreadPoolExecutor(
        number, initializer=torch.set_num_threads, initargs=(max(threads // number, 1),)
    )
    try:
        yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what a worker set would hold for threads to come


def _segment_one(
    path: Path,
    index: int,
    output: Path,
    segmenter: Segmenter,
    spacing: Sequence[float] | None,
    channel: int | None,
    frame: int | None,
) -> tuple[list[Row], Row]:
    """Segment a file and write its labels and picture; its rows of the two tables."""
    begun = time.perf_counter()
    volume = read_volume(path, spacing=spacing, channel=channel, frame=frame)
    found = segmenter(volume)
    stem, title = output / stem_of(volume.source), volume.source.name
    write_labels(f"{stem}_labels.tif", found.labels, spacing=volume.spacing)
    write_overlay(f"{stem}_overlay.png", volume.array, found.labels, spacing=volume.spacing, title=title)
    rows = _nucleus_rows(found, path, index)
    return rows, _timepoint_row(found, path, index, time.perf_counter() - begun)


def _headers() -> dict[str, list[str]]:
    """The tables and their columns, taken from what an image without nuclei gives."""
    nothing = Instances(np.zeros((1, 1, 1), np.uint16), np.zeros(0, np.int64))
    found = Segmentation(nothing.labels, measure(nothing, spacing=(1.0, 1.0, 1.0)))
    return {
        "nuclei.csv": ["image", "frame", *found.nuclei],
        "timepoints.csv": list(_timepoint_row(found, Path(), 0, 0.0)),
    }


def _check_tables(output: Path) -> None:
    """Refuse, before any work, a folder whose tables cannot be gone on with."""
    for name, header in _headers().items():
        path = output / name
        if path.exists() and list(read_csv(path)) != header:
            raise OutputError(f"{path} holds a table with other columns: move it away or give another folder")


def _update_csv(path: Path, rows: list[Row], stems: set[str]) -> None:
    """Replace the rows of the images `stems`; those of other images, from an earlier run, stay."""
    kept: list[Row] = []
    if path.exists():
        old = read_csv(path)
        others = (dict(zip(old, row, strict=True)) for row in zip(*old.values(), strict=True))
        kept = [row for row in others if str(row["image"]) not in stems]
    write_csv(path, kept + rows, header=_headers()[path.name])


def _nucleus_rows(found: Segmentation, path: Path, index: int) -> list[Row]:
    columns = found.nuclei
    rows = zip(*columns.values(), strict=True)
    return [{"image": stem_of(path), "frame": index, **dict(zip(columns, row, strict=True))} for row in rows]


def _timepoint_row(found: Segmentation, path: Path, index: int, seconds: float) -> dict[str, Any]:
    row: dict[str, Any] = {"image": stem_of(path), "frame": index, "n_nuclei": len(found.nuclei["label"])}
    for name in ("volume_um3", "surface_contact_um2", "surface_mesh_um2"):
        values = found.nuclei[name].astype(float)
        row[f"mean_{name}"] = values.mean() if len(values) else np.nan
        row[f"sd_{name}"] = values.std(ddof=1) if len(values) > 1 else np.nan
        row[f"sum_{name}"] = values.sum()
    return row | {"seconds": seconds}


def _run(
    segmenter: Segmenter,
    result: BatchResult,
    spacing: Sequence[float] | None,
    channel: int | None,
    frame: int | None,
) -> dict[str, Any]:
    return {
        "qcanet_monai": qcanet_monai.__version__,
        "spacing_um": list(spacing) if spacing is not None else "as each file states",
        "channel": channel,
        "frame": frame,
        **segmenter.describe(),
        "images": {str(path): count for path, count in result.counts.items()},
        "failures": {str(path): reason for path, reason in result.failures.items()},
    }
