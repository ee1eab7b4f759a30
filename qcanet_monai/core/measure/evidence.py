"""Evidence that objects are more than noise: contrast with their surroundings."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

_OBJECTS = 32  # looked at in an image
_LAGS = 64  # voxels over which the noise may be correlated
_CORRELATED = 0.05
_ENOUGH = 200  # voxels of background


class Evidence(NamedTuple):
    """Medians over objects, NaN without any.

    Attributes
    ----------
    contrast
        Mean of an object above that of the background around it, in standard deviations of this background.
    signal_to_noise
        The same over the standard error of the object's mean, in view of the noise's correlation.
    """

    contrast: float
    signal_to_noise: float


NO_EVIDENCE = Evidence(math.nan, math.nan)


def evidence(image: NDArray[np.generic], labels: NDArray[np.integer]) -> Evidence:
    """Measure how far objects stand out from the noise around them.

    Parameters
    ----------
    image
        Intensities (Z, Y, X).
    labels
        Label image (Z, Y, X), 0 is background.
    """
    boxes = [(number, box) for number, box in enumerate(ndi.find_objects(labels), 1) if box is not None]
    chosen = boxes[:: max(1, -(-len(boxes) // _OBJECTS))]
    contrasts, sizes = [], []
    products, counts = np.zeros((3, _LAGS + 1)), np.zeros((3, _LAGS + 1))
    for number, box in chosen:
        wide = tuple(slice(max(0, s.start - _margin(s)), s.stop + _margin(s)) for s in box)
        part, values = labels[wide], image[wide].astype(np.float64)
        around = ndi.binary_erosion(part == 0, border_value=1)
        if np.count_nonzero(around) < _ENOUGH:
            continue
        values -= values[around].mean()
        contrasts.append(values[part == number].mean() / (values[around].std() + 1e-12))
        sizes.append(np.count_nonzero(part == number))
        _correlate(values, around, products, counts)
    if not contrasts:
        return NO_EVIDENCE
    independent = np.array(sizes) / _voxels_per_sample(products, counts)
    return Evidence(
        float(np.median(contrasts)),
        float(np.median(np.array(contrasts) * np.sqrt(np.maximum(independent, 1)))),
    )


def _margin(side: slice) -> int:
    return 4 + (side.stop - side.start) // 3


def _correlate(
    values: NDArray[np.float64],
    around: NDArray[np.bool_],
    products: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> None:
    """Add the products of background voxels by axis and distance."""
    kept = np.where(around, values, 0.0)
    for axis in range(3):
        for lag in range(min(_LAGS + 1, values.shape[axis])):
            ahead = (slice(None),) * axis + (slice(lag, None),)
            behind = (slice(None),) * axis + (slice(None, values.shape[axis] - lag),)
            products[axis, lag] += float((kept[ahead] * kept[behind]).sum())
            counts[axis, lag] += int(np.count_nonzero(around[ahead] & around[behind]))


def _voxels_per_sample(products: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """Return the number of voxels that vary together, from the autocorrelation."""
    number = 1.0
    for product, count in zip(products, counts, strict=True):
        if product[0] <= 0:
            continue
        correlation = product / np.maximum(count, 1) / (product[0] / count[0])
        ends = np.flatnonzero((correlation < _CORRELATED) | (count < _ENOUGH))
        number *= 1 + 2 * float(correlation[1 : ends[0] if len(ends) else None].sum())
    return number
