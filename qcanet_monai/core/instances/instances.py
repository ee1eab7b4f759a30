"""The result of turning probabilities into objects."""

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
        0 background, 1..n without gaps.
    recovered : ndarray of int64
        Labels that were kept at the volume's border only.
    foreground : ndarray of float32, shape (Z, Y, X), or None
        Probability that a voxel lies in an object; None where nothing was predicted.
    centres_um : ndarray of float64, shape (n, 3), or None
        Centres (z, y, x) in µm, in the order of the labels; None for the centroids.
    integral : float
        Number of objects by the integral of a density; NaN where there is none.
    """

    labels: Labels
    recovered: NDArray[np.int64] = NONE
    foreground: NDArray[np.float32] | None = None
    centres_um: NDArray[np.float64] | None = None
    integral: float = math.nan
