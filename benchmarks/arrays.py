"""Speed of metrics and criteria against plain loops over whole volumes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks import reference
from benchmarks.timing import Figure, figure, ratios, seconds, short
from qcanet_monai.core.measure.nuclei import nucleus_table
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import iou, mucov, seg

SHAPE, SPACING = (51, 120, 122), (1.75, 0.8, 0.8)
_TIMED = 4  # rows of a loop that are timed: all take equally long


def nuclei(number: int, seed: int = 0) -> NDArray[np.uint16]:
    """Draw labelled balls (Z, Y, X), cut at contacts, that fill a fifth of the field."""
    random = np.random.default_rng(seed)
    size = np.multiply(SHAPE, SPACING)
    centres = random.uniform(0, size, (number, 3))
    radius = (0.2 * np.prod(size) / number * 3 / 4 / np.pi) ** (1 / 3)
    places = np.stack(np.indices(SHAPE), -1) * SPACING
    distance, nearest = cKDTree(centres).query(places, distance_upper_bound=radius)
    labels = np.where(np.isfinite(distance), nearest + 1, 0)
    return np.unique(labels, return_inverse=True)[1].reshape(SHAPE).astype(np.uint16)


def scores(labels: NDArray[np.uint16], found: NDArray[np.uint16]) -> dict[str, float]:
    """Compute IoU, SEG and MUCov from one overlap table."""
    overlap = overlap_table(labels, found)
    return {"iou": iou(overlap), "seg": seg(overlap), "mucov": mucov(overlap)}


def metrics(rounds: int) -> Iterator[Figure]:
    """Time IoU, SEG and MUCov of 16 and of 1,000 nuclei."""
    for number, target in ((16, 50), (1000, 1000)):
        labels = nuclei(number)
        found = np.roll(labels, 1, axis=2)
        rows = range(1, min(number, _TIMED) + 1)
        share = int(labels.max()) / len(rows)
        values = ratios(
            lambda a=labels, b=found, r=rows, s=share: s * seconds(lambda: reference.scores(a, b, r)),
            lambda a=labels, b=found: short(lambda: scores(a, b)),
            rounds,
        )
        yield figure(f"metrics of {number:,} nuclei: times faster than plain loops", values, target)


def criteria(rounds: int) -> Iterator[Figure]:
    """Time the table of 1,000 nuclei."""
    labels = nuclei(1000)
    rows = range(1, _TIMED + 1)
    share = int(labels.max()) / len(rows)
    values = ratios(
        lambda: share * seconds(lambda: list(reference.criteria(labels, SPACING, rows))),
        lambda: seconds(lambda: nucleus_table(labels, spacing=SPACING)),
        rounds,
    )
    yield figure("table of 1,000 nuclei: times faster than plain loops", values, 50)
