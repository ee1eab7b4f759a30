"""Watershed markers from the nuclear centres of the detection network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


def markers_from_mask(mask: NDArray[np.generic], *, min_size: int = 1) -> NDArray[np.int32]:
    """Label the 6-connected components of a detection mask 1..n, as int32.

    Parameters
    ----------
    mask
        Detection mask (Z, Y, X), foreground non-zero.
    min_size
        Minimum component size in voxels; smaller components are dropped as noise.
    """
    labelled: NDArray[np.int32] = label(mask != 0, connectivity=1).astype(np.int32, copy=False)
    if min_size <= 1:
        return labelled
    keep = np.bincount(labelled.ravel()) >= min_size
    keep[0] = False
    renumbered = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    kept: NDArray[np.int32] = renumbered[labelled]
    return kept
