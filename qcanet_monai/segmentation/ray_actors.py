"""Batch segmentation on a Ray cluster, by actors that hold one segmenter each."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.cluster import ray_cluster
from qcanet_monai.errors import ClusterError, QCANetError
from qcanet_monai.io.names import Frame
from qcanet_monai.segmentation.image_job import ImageJob
from qcanet_monai.segmentation.segmenter import Segmenter

_TRIES = 3  # attempts per image: Ray retries forever, and the image itself may kill its actor


class _Actor:
    """Segmenter on one CPU core and, if available, a share of a GPU."""

    def __init__(self, job: ImageJob, settings: dict[str, Any], scratch: Path) -> None:
        torch.set_num_threads(1)
        self.job, self.settings, self.scratch = job, settings, scratch
        self.segmenter: Segmenter | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (index,), (path,), (frame,) = batch["index"], batch["path"], batch["frame"]
        try:
            self._try(index)
            self.segmenter = self.segmenter or Segmenter(Bundle(self.scratch / "bundle"), **self.settings)
            self.job.run(Frame(Path(path), int(frame)) if frame >= 0 else Path(path), self.segmenter)
            failure = ""
        except QCANetError as error:
            failure = str(error) if path in str(error) else f"{path}: {error}"
        return {"index": [index], "failure": [failure]}

    def _try(self, index: int) -> None:
        """Count attempts in a file, which survives the death of this process."""
        if not self.scratch.is_dir():
            raise ClusterError(
                f"expected {self.scratch.parent} on every node of the cluster, got none on this node: put "
                "images and output folder on a shared file system"
            )
        with (self.scratch / f"{index}.tries").open("ab") as tries:
            if tries.tell() >= _TRIES:
                raise ClusterError(f"the process died {_TRIES} times, maybe out of memory: use fewer workers")
            tries.write(b".")


def run_on_cluster(
    address: str,
    images: Sequence[Path | Frame],
    job: ImageJob,
    segmenter: Segmenter,
    workers: int | None = None,
) -> Iterator[tuple[int, str | None]]:
    """Segment images on a Ray cluster whose nodes share the image and output folders.

    Yields the index of each finished image, in no particular order, and its error message or None. The
    segmenter's bundle is copied into the output folder during the run, so that a registry alias moved
    meanwhile has no effect.

    Parameters
    ----------
    address
        ``auto`` or ``host:port`` of a running cluster.
    workers
        Maximum number of actors; each takes one CPU and an equal share of the GPUs. By default one per GPU,
        or one per CPU without GPUs.

    Raises
    ------
    ClusterError
        If the cluster does not answer or is lost during the run.
    """
    output = job.output.resolve()
    scratch = output / ".cluster"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        segmenter.bundle.copy_to(scratch / "bundle")
        sampling = {"n_samples": segmenter.n_samples, "drop_uncertain": segmenter.drop_uncertain}
        settings = {**sampling, **segmenter.overrides}
        with ray_cluster(address) as resources:
            whole = replace(job, output=output)
            yield from _run(images, whole, (settings, scratch), resources, workers)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(
    images: Sequence[Path | Frame],
    job: ImageJob,
    actor: tuple[dict[str, Any], Path],
    resources: dict[str, float],
    workers: int | None,
) -> Iterator[tuple[int, str | None]]:
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    gpus = resources.get("GPU", 0)
    workers = min(workers or int(gpus or resources.get("CPU", 1)), len(images))
    try:
        found = ray.data.from_items(
            [_row(index, image) for index, image in enumerate(images)], override_num_blocks=len(images)
        ).map_batches(
            _Actor,
            fn_constructor_args=(job, *actor),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=1,
            num_gpus=1 / math.ceil(workers / gpus) if gpus else 0,
        )
        for row in found.iter_rows():
            yield int(row["index"]), row["failure"] or None
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ClusterError(f"the Ray cluster failed ({reason}): run again to finish") from error


def _row(index: int, image: Path | Frame) -> dict[str, Any]:
    path, frame = image if isinstance(image, Frame) else (image, -1)
    return {"index": index, "path": str(path.resolve()), "frame": frame}
