"""The result of segmenting one volume: labels and a table with a row per object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.instances.instances import Instances, Labels
from qcanet_monai.core.measure.nuclei import Table, label_means, nucleus_table
from qcanet_monai.core.resample import Spacing
from qcanet_monai.io import Volume


@dataclass(frozen=True)
class Segmentation:
    """Labels of one volume and the table of its objects.

    Attributes
    ----------
    labels : ndarray of uint16 or uint32, shape (Z, Y, X)
        On the image's own grid; 0 background, 1..n without gaps.
    table : dict of str to ndarray
        Columns with a row per label.
    spread : ndarray of float32, shape (Z, Y, X), or None
        Standard deviation of the foreground's probability over dropout samples, if there were any.
    integral : float or None
        Number of objects by the integral of a density, if there is one.
    """

    labels: Labels
    table: Table
    spread: NDArray[np.float32] | None = None
    integral: float | None = None


class Method(Protocol):
    """A segmentation of volumes; `n_samples` and `counts` say which further columns its tables have."""

    n_samples: int
    counts: bool

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume."""

    def fingerprint(self) -> list[Any]:
        """Return everything that decides on the labels of a volume."""

    def describe(self) -> dict[str, Any]:
        """Return the settings, as they go into ``run.json``."""


def measure(found: Instances, *, spacing: Spacing, uncertain: bool = False) -> Table:
    """Measure the objects, see ``core.measure.nuclei``, with further columns.

    ``confidence`` is the mean of the foreground's probability over the object's voxels, NaN where nothing was
    predicted; ``recovered`` is 1 where it was kept at the border only; ``uncertainty_um`` and
    ``mask_spread``, if `uncertain`, are NaN until they are known.
    """
    table = nucleus_table(found.labels, spacing=spacing)
    unknown = np.full(len(table["label"]), np.nan)
    table["confidence"] = (
        unknown.copy() if found.foreground is None else label_means(found.labels, found.foreground)
    )
    table["recovered"] = np.isin(table["label"], found.recovered).astype(np.int64)
    if uncertain:
        table |= {"uncertainty_um": unknown, "mask_spread": unknown.copy()}
    return table
