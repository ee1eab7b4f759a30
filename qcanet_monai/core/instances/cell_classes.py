"""Cells as background, membrane and foreground voxels, and back to instances.

Wang et al. (2022), 3DCellSeg, doi:10.1038/s41598-021-04048-3.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.core.instances.instances import Instances
from qcanet_monai.core.instances.tascan import (
    MIN_AREA,
    dbscan,
    fill_from_nearest,
    merge_by_touching_area,
    supervoxels,
)
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError

BACKGROUND, MEMBRANE, FOREGROUND = range(3)
METHODS = ("tascan", "dbscan")


def cell_classes(labels: NDArray[np.integer], *, width_voxels: float = 1.5) -> NDArray[np.uint8]:
    """Classify the voxels of cells as membrane or interior.

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        Label image, 0 is background.
    width_voxels : float
        Membrane width in voxels. A cell voxel is membrane if the centre of a voxel of another cell or of
        background lies within this distance; 1.5 includes neighbours across a face or an edge. Run time grows
        with its cube.

    Returns
    -------
    ndarray of uint8, shape (Z, Y, X)
        0 background, 1 membrane, 2 foreground. The volume's border does not create membrane.

    Raises
    ------
    InputError
        If the width is below one voxel or not finite.
    """
    if not 1 <= width_voxels < math.inf:
        raise InputError(f"expected a membrane width of at least 1 voxel, got {width_voxels}: give e.g. 1.5")
    membrane = np.zeros(labels.shape, bool)
    reach = range(-int(width_voxels), int(width_voxels) + 1)
    for offset in product(reach, repeat=3):
        if offset > (0, 0, 0) and math.hypot(*offset) <= width_voxels:  # opposite offsets give the same pairs
            here, there = _pairs(labels.shape, offset)
            differ = labels[here] != labels[there]
            membrane[here] |= differ
            membrane[there] |= differ
    classes = np.where(membrane, MEMBRANE, FOREGROUND).astype(np.uint8)
    classes[labels == 0] = BACKGROUND
    return classes


def membrane_weights(classes: NDArray[np.integer]) -> NDArray[np.float32]:
    """Compute float32 foreground weights that are highest along the membranes.

    The weight is (D - d + 1) / D, with the distance d to other classes in voxels and its maximum D: 1 along
    the membrane, 1 / D at the deepest voxel (reversed distance transform, Wang et al. 2022). Other classes
    weigh 1, and so does an image without other classes.

    Parameters
    ----------
    classes : ndarray of int, shape (Z, Y, X)
        0 background, 1 membrane, 2 foreground.
    """
    foreground = classes == FOREGROUND
    weights = np.ones(classes.shape, np.float32)
    if foreground.any() and not foreground.all():
        distance = ndi.distance_transform_edt(foreground)[foreground]
        deepest = distance.max()
        weights[foreground] = (deepest - distance + 1) / deepest
    return weights


def cells_from_classes(
    outputs: NDArray[np.float32],
    *,
    image: NDArray[np.generic] | None = None,  # noqa: ARG001
    spacing: Spacing,
    method: str = "tascan",
    min_area: int = MIN_AREA,
    min_size: int = 100,
) -> Instances:
    """Segment cells from probabilities of background, membrane and foreground.

    Voxels most likely to be foreground are clustered into cells. Membranes and dropped foreground go to the
    nearest cell.

    Parameters
    ----------
    outputs : ndarray of float32, shape (3, Z, Y, X)
        Probabilities of background, membrane and foreground.
    image : ndarray, optional
        Unused; all postprocessing functions accept it.
    spacing : tuple of float
        Voxel size (z, y, x) in µm.
    method : {'tascan', 'dbscan'}
        Cluster super-voxels by touching area, or voxels by density, which is much slower.
    min_area : int
        Minimum number of shared voxel faces of super-voxels that merge; TASCAN only.
    min_size : int
        Minimum number of foreground voxels of a cell.

    Returns
    -------
    Instances
        Labels as uint16 (uint32 above 65,535), with the probability of membrane or foreground.

    Raises
    ------
    InputError
        If the outputs do not have three classes, or the method is unknown.
    """
    if outputs.ndim != 4 or len(outputs) != 3:
        raise InputError(
            f"expected probabilities of 3 classes as (3, Z, Y, X), got shape {outputs.shape}: give "
            "background, membrane and foreground, in that order"
        )
    if method not in METHODS:
        raise InputError(f"expected method to be one of {', '.join(METHODS)}, got {method!r}")
    classes = outputs.argmax(axis=0)
    foreground = classes == FOREGROUND
    if method == "tascan":
        cells = merge_by_touching_area(supervoxels(foreground, spacing=spacing), min_area=min_area)
    else:
        cells = dbscan(foreground)
    kept = np.bincount(cells.ravel()) >= min_size
    kept[0] = False
    n_cells = int(kept.sum())
    kind = np.dtype(np.uint16 if n_cells <= np.iinfo(np.uint16).max else np.uint32)
    numbers = np.where(kept, np.cumsum(kept), 0).astype(kind)
    labels = fill_from_nearest(numbers[cells], classes != BACKGROUND, spacing=spacing)
    probability = (outputs[MEMBRANE] + outputs[FOREGROUND]).astype(np.float32, copy=False)
    return Instances(labels, foreground=probability)


def _pairs(shape: tuple[int, ...], offset: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return slices of voxels with a neighbour at the offset, and of the neighbours."""
    sides = list(zip(offset, shape, strict=True))
    here = tuple(slice(max(-o, 0), max(n - max(o, 0), 0)) for o, n in sides)
    there = tuple(slice(max(o, 0), max(n + min(o, 0), 0)) for o, n in sides)
    return here, there
