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
from qcanet_monai.core.criteria import timepoint_criteria
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
from qcanet_monai.io.names import Frame, stem_of
from qcanet_monai.io.volume import read_interval_min
from qcanet_monai.workflows.done import Done
from qcanet_monai.workflows.segment import Segmentation, Segmenter, measure

Row = dict[str, Any]
_WORKERS = 4  # at most, where nobody says: more would hide no more of what is not parallel


@dataclass
class BatchResult:
    """What became of each image: nuclei found, or the reason why not; `kept` were done before."""

    counts: dict[Path | Frame, int] = field(default_factory=dict)
    failures: dict[Path | Frame, str] = field(default_factory=dict)
    kept: int = 0

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
    images: Sequence[Path | Frame],
    output: str | Path,
    segmenter: Segmenter,
    *,
    spacing: Sequence[float] | None = None,
    channel: int | None = None,
    frame: int | None = None,
    interval_min: float | None = None,
    workers: int | None = None,
    progress: Callable[[Path | Frame], None] = lambda _image: None,
) -> BatchResult:
    """Segment image files into a folder.

    Writes ``STEM_labels.tif`` and ``STEM_overlay.png`` per image and, over all images, ``nuclei.csv`` (a
    row per nucleus), ``timepoints.csv`` (a row per image) and ``run.json``. A bad file costs only itself;
    an image that was segmented into this folder with the same settings, and has not changed since, is not
    segmented again, and what an earlier run wrote of other images stays.

    Parameters
    ----------
    images
        Image files and time points of files, whose stems get ``_t000`` and so on; stems must be unique.
    output
        Folder for the results, made if absent; removed again if nothing was written into it.
    segmenter
        The models and settings.
    spacing, channel, frame
        See ``read_volume``.
    interval_min
        Minutes between frames, for ``run.json``; what the first file of several time points states if None.
    workers
        Images under work at the same time, each with its share of the cores; as many as there are cores, up
        to 4, if None. What one of them reads, divides or writes then costs the others no time.
    progress
        Called after each image.

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
    done = Done(output, [segmenter.fingerprint(), spacing, channel, frame, qcanet_monai.__version__])
    try:
        with _side_by_side(workers, len(images)) as submit:
            jobs = [
                submit(_segment_one, image, index, output, segmenter, done, spacing, channel, frame)
                for index, image in enumerate(images)
            ]
            for image, job in zip(images, jobs, strict=True):
                try:
                    rows, timepoint, kept = job.result()
                except QCANetError as error:
                    result.failures[image] = str(error)
                    continue
                finally:
                    progress(image)
                result.counts[image] = len(rows)
                result.kept += kept
                nuclei += rows
                timepoints.append(timepoint)
        if result.counts:
            stems = set(map(_stem, result.counts))
            _update_csv(output / "nuclei.csv", nuclei, stems)
            _update_csv(output / "timepoints.csv", timepoints, stems)
            movie = next((image.path for image in result.counts if isinstance(image, Frame)), None)
            if interval_min is None and movie is not None:
                interval_min = read_interval_min(movie)
            run = _run(segmenter, result, spacing, channel, frame) | {"interval_min": interval_min}
            write_json(output / "run.json", run)
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


def _stem(image: Path | Frame) -> str:
    return f"{stem_of(image.path)}_t{image.number:03d}" if isinstance(image, Frame) else stem_of(image)


def _segment_one(
    image: Path | Frame,
    index: int,
    output: Path,
    segmenter: Segmenter,
    done: Done,
    spacing: Sequence[float] | None,
    channel: int | None,
    frame: int | None,
) -> tuple[list[Row], Row, bool]:
    """Segment an image and write its labels and picture; its rows of the two tables.

    And whether they were there already.
    """
    begun = time.perf_counter()
    path, frame = image if isinstance(image, Frame) else (image, frame)
    stem = _stem(image)
    labels, overlay = output / f"{stem}_labels.tif", output / f"{stem}_overlay.png"
    before = done.read(stem, path, [labels, overlay])
    if before is not None:
        rows, timepoint = before
        return [{**row, "frame": index} for row in rows], {**timepoint, "frame": index}, True
    volume = read_volume(path, spacing=spacing, channel=channel, frame=frame)
    found = segmenter(volume)
    write_labels(labels, found.labels, spacing=volume.spacing)
    write_overlay(overlay, volume.array, found.labels, spacing=volume.spacing, title=str(stem))
    rows = _nucleus_rows(found, stem, index)
    timepoint = _timepoint_row(found, stem, index, time.perf_counter() - begun)
    done.write(stem, path, rows, timepoint)
    return rows, timepoint, False


def _headers() -> dict[str, list[str]]:
    """The tables and their columns, taken from what an image without nuclei gives."""
    nothing = Instances(np.zeros((1, 1, 1), np.uint16), np.zeros(0, np.int64))
    found = Segmentation(nothing.labels, measure(nothing, spacing=(1.0, 1.0, 1.0)))
    return {
        "nuclei.csv": ["image", "frame", *found.nuclei],
        "timepoints.csv": list(_timepoint_row(found, "", 0, 0.0)),
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


def _nucleus_rows(found: Segmentation, stem: str, index: int) -> list[Row]:
    columns = found.nuclei
    rows = zip(*columns.values(), strict=True)
    return [{"image": stem, "frame": index, **dict(zip(columns, row, strict=True))} for row in rows]


def _timepoint_row(found: Segmentation, stem: str, index: int, seconds: float) -> Row:
    return {"image": stem, "frame": index, **timepoint_criteria(found.nuclei), "seconds": seconds}


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
        "images": {str(image): count for image, count in result.counts.items()},
        "failures": {str(image): reason for image, reason in result.failures.items()},
    }
