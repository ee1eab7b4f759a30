"""How much each voxel counts in training, so that a network learns the gaps between nuclei."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError

_REACH = 3.0  # sigma, beyond which an object does not count: where the gap is that wide, exp(-4.5) is left
_CLASS_RANGE = (0.1, 10.0)  # of the classes' weights: a few voxels shall not outweigh all others


def border_weights(
    labels: NDArray[np.integer], *, spacing: Spacing, w0: float = 10.0, sigma_um: float = 2.0
) -> NDArray[np.float32]:
    """Weigh the voxels of a segmentation, those of narrow gaps between its objects most.

    The weight is w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) (Ronneberger et al. 2015, eq. 2; in 3-D, Ram et al.
    2018). w_c is half over the class's share of the voxels, from 0.1 to 10, so that foreground and background
    count alike and the mean is 1; it is 1 where there is one class only. The second term, on background
    alone, is of the distances d1 and d2 to the nearest two objects, between voxels' centres; it is 0 where
    the second is further than 3 sigma. Labels that touch have no background between them, only around their
    contact.

    Parameters
    ----------
    labels
        Label image (Z, Y, X), 0 background; labels may have gaps.
    spacing
        Voxel size (z, y, x) in µm.
    w0
        Weight that a gap of no width would have, 0 or more.
    sigma_um
        Width of the gaps in µm at which their weight has fallen to exp(-1/2) of it.

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)

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
    """Distances in µm to the nearest and the second nearest object; inf where it is out of reach."""
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
