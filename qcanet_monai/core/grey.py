"""Grey values of any dtype and offset as float32, without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT = 2**24  # whole numbers up to this are exact in float32
_NARROW = 1e-4  # range over largest value, below which float32 would lose grey levels
_PADDED = 1e-4  # share of voxels from which an extreme value may be padding; fewer are hot pixels
_MOST_LOW, _MOST_HIGH = 0.5, 0.95  # share up to which it is padding: an empty ground is dark, never bright
_GAP = 0.5  # empty share of the range between padding and grey values


def grey_values(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Convert intensities to float32.

    An offset or a scale that float32 cannot hold is removed before the conversion. If an extreme value far
    from all others fills a corner or a plane, such as the 65,535 with which a registration fills the border,
    its voxels get the median of the others.

    Parameters
    ----------
    image
        Intensities of any real dtype and shape.
    """
    values = _shifted(image).astype(np.float32)
    low, high = values.min(), values.max()
    for extreme in (low, high):
        padding = values == extreme
        count = np.count_nonzero(padding)
        most = _MOST_LOW if extreme == low else _MOST_HIGH
        if not _PADDED < count / values.size < most or not _fills(padding):
            continue
        others = values[~padding]
        gap = others.min() - low if extreme == low else high - others.max()
        if gap > _GAP * (float(high) - float(low)):
            values[padding] = np.median(others)
            break
    return values


def _fills(padding: NDArray[np.bool_]) -> bool:
    """Return True if padding holds a corner or a whole plane."""
    corners = padding[np.ix_(*((0, -1) for _ in padding.shape))]
    planes = (padding.all(axis=tuple({*range(padding.ndim)} - {axis})) for axis in range(padding.ndim))
    return bool(corners.any() or any(plane.any() for plane in planes))


def _shifted(image: NDArray[Any]) -> NDArray[Any]:
    """Subtract an offset, and divide by a scale, that float32 cannot hold."""
    if image.dtype.kind not in "iuf" or image.dtype.itemsize < 4 or image.dtype == np.float32:
        return image
    low, high = image.min(), image.max()
    width, largest = float(high) - float(low), max(abs(float(low)), abs(float(high)))
    if image.dtype.kind == "u":
        return image if largest <= _EXACT else image - low
    if image.dtype.kind == "i":  # differences modulo 2^64, because signed ones can overflow
        unsigned = image.astype(np.int64).view(np.uint64)
        return image if largest <= _EXACT else unsigned - np.int64(low).view(np.uint64)
    limits = np.finfo(np.float32)
    if largest < float(limits.max) and width > max(float(limits.tiny), _NARROW * largest):
        return image
    if not np.isfinite(width):  # the difference would overflow
        return image / (largest / 1000)
    return (image - low) / (width / 1000)
