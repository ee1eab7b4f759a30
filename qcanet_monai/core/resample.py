"""To the isotropic grid on which the networks see, and back to the native one."""

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

# BLAS's threads go on spinning after a product, on the cores on which the networks want to run; the limit is
# the whole process's, so that who sets it must be alone
_BLAS, _ALONE = ThreadpoolController().select(user_api="blas"), Lock()

_Labels = TypeVar("_Labels", bound=NDArray[Any])

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]


def isotropic_shape(
    shape: Sequence[int], *, spacing: Spacing, isotropic_spacing_um: float | None = None
) -> Shape:
    """Shape (Z, Y, X) that covers the same field with cubic voxels.

    Parameters
    ----------
    shape
        Native shape (Z, Y, X).
    spacing
        Native voxel size (z, y, x) in µm.
    isotropic_spacing_um
        Edge of the cubic voxels in µm; the finest native spacing if None (Tokuoka et al. 2020).

    Raises
    ------
    InputError
        If it is not a positive, finite number.
    """
    edge = min(spacing) if isotropic_spacing_um is None else isotropic_spacing_um
    if not 0 < edge < math.inf:
        raise InputError(
            f"expected a finite grid spacing above 0 µm, got {edge}: give the edge of a cubic voxel"
        )
    nz, ny, nx = (max(1, round(n * s / edge)) for n, s in zip(shape, spacing, strict=True))
    return nz, ny, nx


def nuclear_diameter_um(mask: NDArray[np.generic], *, spacing: Spacing) -> float:
    """Diameter in µm of the typical nucleus in a mask (Z, Y, X), by volume; NaN in an empty one.

    Eight times the mean depth, the distance to the surface: in a ball of radius R that mean is R / 4. Specks
    weigh as little as their volume; nuclei that touch count as if they were somewhat larger.
    """
    inside = mask != 0
    if not inside.any():
        return math.nan
    components, _ = ndi.label(inside)
    depth = 0.0
    for number, box in enumerate(ndi.find_objects(components), 1):
        # a margin of one voxel holds the background nearest to each voxel of a component
        box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        distance = ndi.distance_transform_edt(inside[box], sampling=spacing)
        depth += float(distance[components[box] == number].sum())
    depth /= np.count_nonzero(inside)
    return 8 * (depth - min(spacing) / 2)  # measured between voxels' centres, half a voxel too far


def grid_for(diameter_um: float, *, spacing: Spacing, across: float) -> float | None:
    """Edge in µm of the cubic voxels on which a nucleus is at most `across` voxels wide.

    None, for the finest native spacing, where it is no wider than that already, or unknown (NaN).
    """
    return diameter_um / across if diameter_um > across * min(spacing) else None


def interpolation(old: int, new: int) -> NDArray[np.float32]:
    """Weights (new, old) that carry an axis of `old` voxels to `new` ones over the same length.

    Linear between the two voxels about a new centre; an axis that becomes coarser is smoothed first, by a
    Gaussian of half the factor less one, in old voxels, as skimage.transform.resize does.
    """
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    weights = np.maximum(1 - np.abs(np.arange(old) - centres[:, None]), 0)
    if new < old:
        weights = weights @ ndi.gaussian_filter1d(np.eye(old), (old / new - 1) / 2, axis=0, mode="nearest")
    return weights.astype(np.float32)


def resample(image: NDArray[np.generic], shape: Shape) -> NDArray[np.float32]:
    """Interpolate an image (Z, Y, X) linearly onto `shape` voxels over the same field, as float32.

    Voxel centres stay where they are in space. Axes that become coarser are smoothed, so that nothing
    aliases; axes that become finer are not.
    """
    values = image.astype(np.float32, copy=False)
    with _ALONE, _BLAS.limit(limits=1):
        return _resampled(values, shape)


def _resampled(values: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    # what shrinks most goes first: the other axes then have less to do
    for axis in sorted(range(3), key=lambda axis: shape[axis] / values.shape[axis]):
        old, new = values.shape[axis], shape[axis]
        if old == new:
            continue
        weights = interpolation(old, new)  # a product of matrices costs less than looking neighbours up
        if axis == 0:
            values = np.matmul(weights, values.reshape(old, -1)).reshape(new, *values.shape[1:])
        else:
            values = np.matmul(weights, values) if axis == 1 else np.matmul(values, weights.T)
    return values


def resample_mask(mask: NDArray[np.generic], shape: Shape) -> NDArray[np.bool_]:
    """Interpolate a mask (Z, Y, X; foreground is non-zero) linearly and cut at one half."""
    if mask.shape == shape:
        return np.asarray(mask != 0)
    return resample(mask != 0, shape) >= 0.5


def resample_labels(labels: _Labels, shape: Shape) -> _Labels:
    """The label (Z, Y, X) nearest to each voxel's centre, on `shape` voxels over the same field."""
    sizes = zip(labels.shape, shape, strict=True)
    nearest = [((np.arange(new) + 0.5) * old / new).astype(int) for old, new in sizes]
    return cast(_Labels, labels[np.ix_(*nearest)])
