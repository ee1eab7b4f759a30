"""Resolution of an image: the voxel edge below which it holds nothing new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.resample import Spacing

_LAGS = 12  # largest distance between neighbours of a difference, in voxels
_RISE = 2.0  # exponent of the differences' growth with distance that marks the resolution
_SLICES = 24  # looked at
_FINE = 1.3  # an axis is looked at if its voxels are at most so many times the finest


def resolution_um(image: NDArray[np.generic], spacing: Spacing) -> float:
    """Estimate the resolution of an image (Z, Y, X) in µm.

    Third differences of voxels at a distance remove what varies smoothly. Noise that is independent in each
    voxel adds the same at every distance. Where voxels were interpolated or blurred, neighbours differ
    little, and the mean square grows steeply with distance up to the resolution, about as its square there.

    The distance at which this growth passes the square is 1.5, 2.5 and 4 voxels for white noise that was
    interpolated linearly to as many times the voxels. The finest spacing is the least.
    """
    finest = min(spacing)
    found = []
    for axis, step in enumerate(spacing):
        if step <= _FINE * finest and image.shape[axis] > 8:
            across = 1 if axis == 0 else 0
            sliced = np.moveaxis(image, across, 0)[:: max(1, image.shape[across] // _SLICES)]
            values = np.moveaxis(sliced.astype(np.float32), 0, across)
            found.append(step * _voxels(values, axis))
    return max(finest, float(np.median(found))) if found else finest


def _voxels(values: NDArray[np.float32], axis: int) -> float:
    """Return the distance in voxels at which differences grow as its square."""
    count = min(_LAGS, (values.shape[axis] - 1) // 4)
    power = np.array([_third_difference(values, lag, axis) for lag in range(1, count + 1)])
    if not power.all() or count < 2:
        return 1.0
    lags = np.arange(1, count + 1)
    rises = np.diff(np.log(power)) / np.diff(np.log(lags))
    middles = np.sqrt(lags[1:] * lags[:-1])
    below = np.flatnonzero(rises < _RISE)
    first = int(below[0]) if len(below) else len(rises) - 1
    # a flat start is one voxel
    before, at = (0.0, 1.0) if first == 0 else (rises[first - 1], middles[first - 1])
    here, there = rises[first], middles[first]
    if first == 0:
        return float(at + (there - at) * min(1.0, max(0.0, here) / _RISE))
    return float(at + (there - at) * (before - _RISE) / (before - here))


def _third_difference(values: NDArray[np.float32], lag: int, axis: int) -> float:
    """Return the mean square of I(x) - 3 I(x + lag) + 3 I(x + 2 lag) - I(x + 3 lag)."""
    moved = np.moveaxis(values, axis, 0)
    size = len(moved) - 3 * lag
    one, two, three, four = (moved[part * lag : part * lag + size] for part in range(4))
    return float(np.mean((one - four + 3 * (three - two)) ** 2, dtype=np.float64))
