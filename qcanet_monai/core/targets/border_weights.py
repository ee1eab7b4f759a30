"""Voxel weights that emphasise narrow gaps between nuclei in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError

_REACH = 3.0  # sigma; objects farther away are ignored, because their weight is at most exp(-4.5) w0
_CLASS_RANGE = (0.1, 10.0)  # bounds of class weights, so that a few voxels do not dominate


def border_weights(
    labels: NDArray[np.integer], *, spacing: Spacing, w0: float = 10.0, sigma_um: float = 2.0
) -> NDArray[np.float32]:
    """Compute float32 voxel weights, highest in narrow gaps between objects.

    The weight is w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) (Ronneberger et al. 2015, eq. 2; in 3-D, Ram et al.
    2018). The class weight w_c is 0.5 / (fraction of voxels in the class), limited to [0.1, 10]: foreground
    and background contribute equally and the mean is 1. If only one class is present, w_c is 1. The second
    term applies to background. d1 and d2 are the distances between voxel centres to the two nearest objects;
    beyond d2 = 3 sigma the term is 0. Touching labels have no gap, so only the background around their
    contact gains weight.

    Parameters
    ----------
    labels
        Label image (Z, Y, X), 0 is background; labels may have gaps.
    spacing
        Voxel size (z, y, x) in µm.
    w0
        Weight of a gap of zero width, at least 0.
    sigma_um
        Gap width d1 + d2 in µm at which the second term is exp(-1/2) w0.

    Raises
    ------
    InputError
        If w0 is negative or sigma is not positive, or either is not finite.
    """
    if not (0 <= w0 < np.inf and 0 < sigma_um < np.inf):
        raise InputError(
            f"expected a finite w0 of 0 or more and a sigma above 0 µm, got {w0} and {sigma_um}: "
            "give e.g. 10 and 2"
        )
    background = labels == 0
    shares = np.array([1 - background.mean(), background.mean()])
    balance = np.clip(0.5 / shares, *_CLASS_RANGE) if shares.all() else np.ones(2)
    weights: NDArray[np.float32] = balance.astype(np.float32)[background.astype(np.intp)]
    first, second = _nearest_two(labels, spacing, _REACH * sigma_um)
    gaps = background & np.isfinite(second)
    width = first[gaps] + second[gaps]
    weights[gaps] += np.float32(w0) * np.exp(-(width**2) / np.float32(2 * sigma_um**2))
    return weights


def _nearest_two(
    labels: NDArray[np.integer], spacing: Spacing, reach_um: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return distances in µm to the two nearest objects; inf beyond `reach_um`."""
    first = np.full(labels.shape, np.inf, np.float32)
    second = first.copy()
    margin = [int(reach_um / step) + 1 for step in spacing]
    for number, sides in enumerate(ndi.find_objects(labels), 1):
        if sides is None:
            continue
        box = tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(sides, margin, strict=True))
        distance = ndi.distance_transform_edt(labels[box] != number, sampling=spacing).astype(np.float32)
        distance[distance > reach_um] = np.inf
        second[box] = np.minimum(second[box], np.maximum(first[box], distance))
        first[box] = np.minimum(first[box], distance)
    return first, second
