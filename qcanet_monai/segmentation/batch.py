"""Segment image files into a folder of label images, overlays and tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qcanet_monai
from qcanet_monai.core.instances.instances import Instances
from qcanet_monai.errors import InputError, QCANetError
from qcanet_monai.io import output_folder, write_json
from qcanet_monai.io.names import Frame, image_stem, interval_of
from qcanet_monai.segmentation.files import (
    check_tables,
    columns_of,
    files_of,
    others_of,
    read_run,
    write_tables,
)
from qcanet_monai.segmentation.image_job import ImageJob
from qcanet_monai.segmentation.result import Method, measure
from qcanet_monai.segmentation.result_cache import ResultCache
from qcanet_monai.segmentation.segmenter import Segmenter

_WORKERS = 4  # default maximum: more threads do not hide more serial work


@dataclass
class BatchResult:
    """Nuclei and doubts per segmented image, error per failed image, reused images."""

    counts: dict[Path | Frame, int] = field(default_factory=dict)
    failures: dict[Path | Frame, str] = field(default_factory=dict)
    doubts: dict[Path | Frame, list[str]] = field(default_factory=dict)
    kept: int = 0

    def raise_failures(self) -> None:
        """Raise one InputError that names every failed image, if any failed."""
        if self.failures:
            raise InputError("; ".join(self.failures.values()))


def segment_files(
    images: Sequence[Path | Frame],
    output: str | Path,
    segmenter: Method,
    *,
    spacing: Sequence[float] | None = None,
    channel: int | None = None,
    frame: int | None = None,
    invert: bool | None = None,
    strict: bool = False,
    interval_min: float | None = None,
    workers: int | None = None,
    address: str | None = None,
    progress: Callable[[Path | Frame], None] = lambda _image: None,
) -> BatchResult:
    """Segment image files into a folder.

    Writes ``STEM_labels.tif`` and ``STEM_overlay.png`` per image, ``nuclei.csv`` (a row per nucleus),
    ``timepoints.csv`` (a row per image) and ``run.json``, each file atomically. An image that fails does
    not stop the others. Images already segmented into this folder are reused if neither the image nor the
    settings changed. Label images that were edited since are kept and measured again. Files and rows of other
    images are kept.

    Parameters
    ----------
    images
        Image files, and time points of files (stems end in ``_t000``, …); stems must be unique.
    output
        Output folder, created if absent; removed again if nothing was written into it.
    segmenter
        Models and settings; must be a `Segmenter` if `address` is given.
    spacing, channel, frame, invert
        See ``read_volume``.
    strict
        Refuse an image with a doubt, such as one unlike those of training.
    interval_min
        Minutes between frames, for ``run.json``; by default as stated by the first multi-frame file.
    workers
        Images processed at the same time, sharing the cores; by default one per core, at most 4. On a
        cluster see ``ray_actors.run_on_cluster``.
    address
        ``auto`` or ``host:port`` of the Ray cluster to use; this process if None.
    progress
        Called with each image once it is finished.

    Raises
    ------
    OutputError
        If the folder is not writable, its tables have other columns, or it holds the results of another
        image with the same name.
    ClusterError
        If the cluster does not answer or is lost; finished images are kept.
    """
    output = Path(output)
    existed = output.is_dir()
    output_folder(output)
    nothing = Instances(np.zeros((1, 1, 1), np.uint16))
    table = measure(nothing, spacing=(1.0, 1.0, 1.0), uncertain=segmenter.n_samples > 0)
    headers = columns_of(table, 0.0 if segmenter.counts else None)
    check_tables(output, headers)
    settings = [segmenter.fingerprint(), spacing, channel, frame, invert, qcanet_monai.__version__]
    uncertain, cache = segmenter.n_samples > 0, ResultCache(output.resolve(), settings)
    job = ImageJob(output, cache, spacing, channel, frame, uncertain, invert, strict)
    for image in images:
        job.check(image)
    found = {image: rows for image in images if (rows := job.rows(image)) and not (strict and rows.doubts)}
    result = BatchResult(kept=len(found))
    for image in found:
        progress(image)
    todo = [image for image in images if image not in found]
    try:
        for index, failure in _outcomes(todo, job, segmenter, address, workers):
            image = todo[index]
            rows = None if failure else job.rows(image)
            if rows is not None:
                found[image] = rows
            else:
                result.failures[image] = failure or (
                    f"expected results of {image} in {output}, got none: give a folder that all nodes share"
                )
            progress(image)
        result.counts = {image: len(found[image].nuclei) for image in images if image in found}
        result.doubts = {image: found[image].doubts for image in result.counts if found[image].doubts}
        result.failures = {image: result.failures[image] for image in images if image in result.failures}
        if found:
            labels = [files_of(output, image_stem(image), uncertain=False)[0] for image in found]
            write_tables(output, images, found, headers, labels)
            before = read_run(output)
            if interval_min is None:
                interval_min = interval_of(result.counts) or before.get("interval_min")
            run = _run(segmenter, result, spacing, channel, frame)
            run |= {"invert": invert, "interval_min": interval_min}
            run["scales"] = {str(image): found[image].scale for image in result.counts if found[image].scale}
            for part in ("images", "doubts", "scales"):
                run[part] = others_of(before, images, part) | run[part]
            write_json(output / "run.json", run | ({"device": f"Ray cluster {address}"} if address else {}))
    finally:
        if not existed and not result.counts:
            with contextlib.suppress(OSError):  # not empty, or never created
                output.rmdir()
    return result


def _outcomes(
    images: Sequence[Path | Frame],
    job: ImageJob,
    segmenter: Method,
    address: str | None,
    workers: int | None,
) -> Iterator[tuple[int, str | None]]:
    """Yield the index of each processed image, and its error message or None."""
    if not images:
        return
    if address is not None:
        from qcanet_monai.segmentation.ray_actors import run_on_cluster  # Ray takes seconds to import

        if not isinstance(segmenter, Segmenter):
            raise InputError("expected networks for a Ray cluster, got another method: omit --address")
        yield from run_on_cluster(address, images, job, segmenter, workers)
        return
    with _side_by_side(workers, len(images)) as submit:
        for index, future in enumerate([submit(job.run, image, segmenter) for image in images]):
            try:
                future.result()
                yield index, None
            except QCANetError as error:
                yield index, str(error)


@contextlib.contextmanager
def _side_by_side(workers: int | None, images: int) -> Iterator[Callable[..., Future[None]]]:
    """Run jobs in threads that share the cores; cancel pending jobs on an error."""
    threads = torch.get_num_threads()
    number = min(workers or min(threads, _WORKERS), images)
    pool = ThreadPoolExecutor(
        number, initializer=torch.set_num_threads, initargs=(max(threads // number, 1),)
    )
    try:
        yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # workers changed the default of later threads


def _run(
    segmenter: Method,
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
        "doubts": {str(image): doubts for image, doubts in result.doubts.items()},
        "failures": {str(image): reason for image, reason in result.failures.items()},
    }
