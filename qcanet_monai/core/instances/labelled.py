"""What any of the methods makes of a network's outputs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.instances.watershed import Labels

NONE: NDArray[np.int64] = np.zeros(0, np.int64)


class Labelled(NamedTuple):
    """Objects found in one volume.

    Attributes
    ----------
    labels : ndarray of uint16 or uint32, shape (Z, Y, X)
        0 background, 1..n without gaps.
    foreground : ndarray of float32, shape (Z, Y, X)
        Probability that a voxel lies in an object.
    centres_um : ndarray of float64, shape (n, 3)
        Centres (z, y, x) in µm, in the order of the labels.
    recovered : ndarray of int64
        Labels that were kept at the volume's border only.
    integral : float
        How many objects there are by a density's integral; NaN where there is none.
    """

    labels: Labels
    foreground: NDArray[np.float32]
    centres_um: NDArray[np.float64]
    recovered: NDArray[np.int64] = NONE
    integral: float = math.nan
