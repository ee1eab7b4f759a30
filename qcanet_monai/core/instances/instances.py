"""Objects found in one volume, the result of every postprocessing function."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint16] | NDArray[np.uint32]
NONE: NDArray[np.int64] = np.zeros(0, np.int64)


class Instances(NamedTuple):
    """Objects found in one volume.

    Attributes
    ----------
    labels : ndarray of uint16 or uint32, shape (Z, Y, X)
        0 is background, objects are 1..n without gaps.
    recovered : ndarray of int64
        Labels kept only because they touch the volume's border.
    foreground : ndarray of float32, shape (Z, Y, X), or None
        Foreground probability; None if nothing was predicted.
    centres_um : ndarray of float64, shape (n, 3), or None
        Centres (z, y, x) in µm, in the order of the labels; None means the centroids.
    integral : float
        Number of objects from the integral of a density; NaN without a density.
    level : float
        Foreground probability at which the objects end.
    """

    labels: Labels
    recovered: NDArray[np.int64] = NONE
    foreground: NDArray[np.float32] | None = None
    centres_um: NDArray[np.float64] | None = None
    integral: float = math.nan
    level: float = 0.5
