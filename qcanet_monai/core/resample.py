"""Resampling to the networks' isotropic grid and back to the native grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from threadpoolctl import ThreadpoolController

from qcanet_monai.errors import InputError

# BLAS threads keep spinning after a product and take cores from the networks. The limit applies to the whole
# process, so only one thread at a time may set it.
_BLAS, _ALONE = ThreadpoolController().select(user_api="blas"), Lock()

_Labels = TypeVar("_Labels", bound=NDArray[Any])

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]


def isotropic_shape(
    shape: Sequence[int], *, spacing: Spacing, isotropic_spacing_um: float | None = None
) -> Shape:
    """Compute the shape (Z, Y, X) that covers the same field with cubic voxels.

    Parameters
    ----------
    shape
        Native shape (Z, Y, X).
    spacing
        Native voxel size (z, y, x) in µm.
    isotropic_spacing_um
        Edge of the cubic voxels in µm; None means the finest native spacing (Tokuoka et al. 2020).

    Raises
    ------
    InputError
        If the edge is not positive and finite.
    """
    edge = min(spacing) if isotropic_spacing_um is None else isotropic_spacing_um
    if not 0 < edge < math.inf:
        raise InputError(
            f"expected a finite grid spacing above 0 µm, got {edge}: give the edge of a cubic voxel"
        )
    nz, ny, nx = (max(1, round(n * s / edge)) for n, s in zip(shape, spacing, strict=True))
    return nz, ny, nx


def nuclear_diameter_um(mask: NDArray[np.generic], *, spacing: Spacing) -> float:
    """Estimate the typical nuclear diameter in µm in a mask (Z, Y, X).

    The diameter is eight times the mean distance to the surface, which is R / 4 in a ball of radius R. All
    voxels weigh the same, so specks hardly matter. Touching nuclei seem slightly larger. NaN for an empty
    mask.
    """
    inside = mask != 0
    if not inside.any():
        return math.nan
    components, _ = ndi.label(inside)
    depth = 0.0
    for number, box in enumerate(ndi.find_objects(components), 1):
        # one voxel of margin contains the background nearest to each voxel of the component
        box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        distance = ndi.distance_transform_edt(inside[box], sampling=spacing)
        depth += float(distance[components[box] == number].sum())
    depth /= np.count_nonzero(inside)
    return 8 * (depth - min(spacing) / 2)  # minus half a voxel, because distances are between voxel centres


def interpolation(old: int, new: int) -> NDArray[np.float32]:
    """Return float32 weights (new, old) that resample an axis to `new` voxels.

    Linear interpolation between voxel centres. An axis that becomes coarser is first smoothed by a Gaussian
    with a standard deviation of (old / new - 1) / 2 old voxels, as in skimage.transform.resize.
    """
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    weights = np.maximum(1 - np.abs(np.arange(old) - centres[:, None]), 0)
    if new < old:
        weights = weights @ ndi.gaussian_filter1d(np.eye(old), (old / new - 1) / 2, axis=0, mode="nearest")
    return weights.astype(np.float32)


def resample(image: NDArray[np.generic], shape: Shape) -> NDArray[np.float32]:
    """Interpolate an image (Z, Y, X) linearly to a shape over the same field.

    Returns float32. Axes that become coarser are smoothed against aliasing; axes that become finer are not.
    """
    values = image.astype(np.float32, copy=False)
    with _ALONE, _BLAS.limit(limits=1):
        return _resampled(values, shape)


def _resampled(values: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    # start with the axis that shrinks most, to save work on the others
    for axis in sorted(range(3), key=lambda axis: shape[axis] / values.shape[axis]):
        old, new = values.shape[axis], shape[axis]
        if old == new:
            continue
        weights = interpolation(old, new)  # a matrix product is faster than indexing neighbours
        if axis == 0:
            values = np.matmul(weights, values.reshape(old, -1)).reshape(new, *values.shape[1:])
        else:
            values = np.matmul(weights, values) if axis == 1 else np.matmul(values, weights.T)
    return values


def resample_mask(mask: NDArray[np.generic], shape: Shape) -> NDArray[np.bool_]:
    """Interpolate a mask (Z, Y, X; non-zero is foreground) and threshold at 0.5."""
    if mask.shape == shape:
        return np.asarray(mask != 0)
    return resample(mask != 0, shape) >= 0.5


def resample_labels(labels: _Labels, shape: Shape) -> _Labels:
    """Resample labels (Z, Y, X) to a shape over the same field by nearest neighbour."""
    sizes = zip(labels.shape, shape, strict=True)
    nearest = [((np.arange(new) + 0.5) * old / new).astype(int) for old, new in sizes]
    return cast(_Labels, labels[np.ix_(*nearest)])
