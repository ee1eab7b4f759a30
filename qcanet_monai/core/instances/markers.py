"""Watershed markers from the nuclear centres of the detection network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction


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


def markers_from_probability(
    centre: NDArray[np.floating], *, threshold: float, height: float = 0.0, min_size: int = 1
) -> NDArray[np.int32]:
    """Label nuclear centres (Z, Y, X) 1..n, as int32.

    Parameters
    ----------
    centre
        Probability of a centre, or the depth within a nucleus (Z, Y, X).
    threshold, min_size
        Minimum value of a centre; minimum size in voxels of a component of such values.
    height
        Least descent between two centres, see `markers_from_peaks`; 0 labels the components of all voxels
        from the threshold on (Tokuoka et al. 2020).
    """
    if height:
        return markers_from_peaks(centre, height=height, least=threshold, min_size=min_size)
    return markers_from_mask(centre >= threshold, min_size=min_size)


def markers_from_peaks(
    depth: NDArray[np.floating], *, height: float, least: float, min_size: int = 1
) -> NDArray[np.int32]:
    """Label the peaks of a depth (Z, Y, X) 1..n, as int32.

    A peak is a region from which every way to a higher peak descends by more than `height` (h-maxima, Soille
    1999). Small and large nuclei, and neighbours with a shallow valley, need no common threshold.

    Parameters
    ----------
    depth
        Depth within nuclei, 1 in the middle.
    height
        Least descent between two peaks.
    least
        Least depth of a peak.
    min_size
        Smallest region of at least `least`, in voxels; the peaks of smaller ones are dropped as noise.
    """
    markers = np.zeros(depth.shape, np.int32)
    regions = markers_from_mask(depth >= least, min_size=min_size)
    count = 0
    for number, box in enumerate(ndi.find_objects(regions), 1):
        own = np.where(regions[box] == number, depth[box], 0).astype(np.float64)
        # the peaks, each cut off `height` below its top, are flat; the frame makes maxima at a border ones
        flat = reconstruction(np.maximum(own - height, 0), own)
        tops, found = ndi.label(local_maxima(np.pad(flat, 1), connectivity=1)[1:-1, 1:-1, 1:-1])
        markers[box][tops > 0] = tops[tops > 0] + count
        count += found
    return markers
