"""Scaling of time and memory with the volume; speed of parallel time points."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from benchmarks.inference import SPACING, embryo
from benchmarks.timing import Figure, seconds
from qcanet_monai.core.resample import resample
from qcanet_monai.io import Volume, write_volume
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.segmentation.load import load_segmenter

CUBIC = (0.8, 0.8, 0.8)
EMBRYO = (112, 120, 122)  # voxels of size CUBIC


class Cost(NamedTuple):
    """Cost of segmenting a volume: time and memory.

    `pace` is the time per voxel relative to one embryo, `held` the process's bytes with the input loaded,
    `peak` its maximum.
    """

    voxels: int
    seconds: float
    pace: float
    held: int
    peak: int

    @property
    def beyond(self) -> int:
        """Peak memory beyond the loaded input, in bytes."""
        return self.peak - self.held


def cost(shape: tuple[int, int, int]) -> Cost:
    """Segment a repeated embryo of a shape (Z, Y, X), and the single embryo.

    Voxels are cubes, so resampling adds none. Memory includes the process's first segmentation.
    """
    segmenter, image = load_segmenter(), resample(embryo(), EMBRYO).astype(np.uint16)
    repeats = [-(-size // one) for size, one in zip(shape, EMBRYO, strict=True)]
    z, y, x = shape
    volume = Volume(np.tile(image, repeats)[:z, :y, :x].copy(), CUBIC, Path("embryos"))
    one = Volume(image, CUBIC, Path("embryo"))
    held = psutil.Process().memory_info().rss
    segmenter(one)
    alone = [seconds(lambda: segmenter(one)) for _ in range(2)]
    took = seconds(lambda: segmenter(volume))
    peak = _peak()
    segmenter(one)  # warm up: the large volume has freed its memory
    alone += [seconds(lambda: segmenter(one)) for _ in range(2)]
    pace = took / volume.array.size / (statistics.median(alone) / image.size)
    return Cost(volume.array.size, took, pace, held, peak)


def _peak() -> int:
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, getrusage includes the parent's peak
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def fresh(shape: tuple[int, int, int]) -> Cost:
    """Measure the cost in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(cost, shape).result()


def doublings(number: int) -> Iterator[Figure]:
    """Measure the scaling over repeated doublings of the volume."""
    depth, height, width = EMBRYO
    costs = [
        fresh((depth * 2 ** ((n + 2) // 3), height * 2 ** ((n + 1) // 3), width * 2 ** (n // 3)))
        for n in range(number + 1)
    ]
    first = costs[0]
    paces = [one.pace for one in costs[1:]]
    yield Figure(
        f"{number} doublings: time over voxels, over the first's",
        paces[-1],
        min(paces),
        max(paces),
        1.0,
        True,
    )
    shares = [one.beyond / first.beyond / (one.voxels / first.voxels) for one in costs[1:]]
    yield Figure(
        f"{number} doublings: peak memory over voxels, over the first's",
        shares[-1],
        min(shares),
        max(shares),
        1.0,
        True,
    )
    ends = [one.beyond / one.voxels for one in costs]
    yield Figure(f"{number} doublings: bytes a voxel", ends[-1], min(ends), max(ends), 40, True)


def large() -> Iterator[Figure]:
    """Measure the process's peak memory for 200 x 1,000 x 1,000 voxels."""
    took = fresh((200, 1000, 1000))
    peak = took.peak / 1e9
    title = f"200 million voxels, in {took.seconds:.0f} s: peak memory of all, GB"
    yield Figure(title, peak, peak, peak, 8, True)


def series(images: int, parts: int) -> Iterator[Figure]:
    """Compare parallel with sequential time points, part by part of a series."""
    segmenter, image = load_segmenter(), embryo()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"t{number:03}.tif" for number in range(images)]
        for number, path in enumerate(paths):
            write_volume(path, np.roll(image, number, axis=2), spacing=SPACING)

        def took(part: list[Path], workers: int | None) -> float:
            with tempfile.TemporaryDirectory() as out:
                return seconds(lambda: segment_files(part, out, segmenter, workers=workers))

        segment_files(paths[:2], Path(folder) / "warm", segmenter)
        found = [(took(paths[n::parts], 1), took(paths[n::parts], None)) for n in range(parts)]
    alone, together = (sum(column) for column in zip(*found, strict=True))
    gains = [one / other for one, other in found]
    title = f"{images} time points: times faster side by side than one by one"
    yield Figure(title, alone / together, min(gains), max(gains), 1.3)
