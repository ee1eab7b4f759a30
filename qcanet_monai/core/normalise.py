"""Normalisation of image intensities to the input range of the networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.errors import InputError

METHODS = ("robust", "min_max", "soft", "standard")
_PERCENTILES = (1.0, 99.8)  # nuclei fill at least 0.5 % of a volume, so the upper value lies within nuclei
_KNEE = 10.0  # `soft`: nearly linear below a tenth of the range, compressed above
_SAMPLE = 1 << 21  # voxels; images twice as large are sampled, because percentiles copy their input
_FEW = 10_000  # values below which NumPy's percentiles are fast
_SOFT_TOP = 1.5  # `soft`: upper limit, reached at 4.5 times the range


def normalise(image: NDArray[np.generic], method: str = "robust") -> NDArray[np.float32]:
    """Scale image intensities, by default to [0, 1].

    Returns float32; constant images become 0.

    Parameters
    ----------
    image
        Intensities, any shape.
    method
        ``min_max`` maps the minimum to 0 and the maximum to 1 (Tokuoka et al. 2020); a single bright voxel
        compresses all others. ``robust`` maps the 1st percentile to 0 and the 99.8th to 1, and clips.
        ``soft`` scales x by the same percentiles and returns asinh(10 x) / asinh(10), clipped to [0, 1.5];
        nuclei a tenth as bright as the brightest keep a third of its value. Its percentiles exclude voxels of
        exactly 0, often padding around the field, if fewer than half of the voxels are 0. ``standard``
        subtracts the mean and divides by the standard deviation, without limits.

    Raises
    ------
    InputError
        If the method is unknown.
    """
    values = image.astype(np.float32, copy=False)
    if method not in METHODS:
        raise InputError(f"expected a normalisation of {', '.join(METHODS)}, got {method!r}")
    if method == "standard":
        spread = float(values.std(dtype=np.float64))
        middle = np.float32(values.mean(dtype=np.float64))
        return (values - middle) / np.float32(spread if spread > 0 else 1.0)
    low, high = float(values.min()), float(values.max())
    if method != "min_max":
        # equal percentiles, as with very few nuclei: use the extremes
        inner = _percentiles(_seen(values, method))
        low, high = (float(v) for v in inner) if inner[0] < inner[1] else (low, high)
    if low == high:
        return np.zeros_like(values)
    scaled = values - np.float32(low)
    if method != "soft":
        scaled /= np.float32(high - low)
        return np.clip(scaled, 0, 1, out=scaled)
    scaled *= np.float32(_KNEE / (high - low))
    np.arcsinh(scaled, out=scaled)
    scaled /= np.float32(np.arcsinh(_KNEE))
    return np.clip(scaled, 0, _SOFT_TOP, out=scaled)


def _seen(values: NDArray[np.float32], method: str) -> NDArray[np.float32]:
    """Select the values for the percentiles, every n-th (n odd) in a large image."""
    sample = values.ravel()[:: values.size // _SAMPLE | 1]
    if method != "soft":
        return sample
    seen = sample[sample != 0]
    return seen if 2 * seen.size > sample.size else sample


def _percentiles(values: NDArray[np.float32]) -> tuple[float, float]:
    """Compute NumPy's percentiles, but rank only the values near either end."""
    low, high = _PERCENTILES
    if values.size >= _FEW:
        sample = values[::31]
        begins, ends = np.percentile(sample, (100 - 2 * (100 - high), 2 * low))
        below, above = values[values <= ends], values[values >= begins]
        bottom = _ranked(below, low, values.size, 0)
        top = _ranked(above, high, values.size, values.size - len(above))
        if bottom is not None and top is not None:
            return bottom, top
    bottom, top = (float(value) for value in np.percentile(values, _PERCENTILES))
    return bottom, top


def _ranked(near: NDArray[np.float32], percentile: float, size: int, before: int) -> float | None:
    """Interpolate a percentile of `size` values; `before` of them are below `near`."""
    place = percentile / 100 * (size - 1)
    rank = int(place)
    if not 0 <= rank - before < len(near) - 1:
        return None
    near.partition((rank - before, rank - before + 1))
    one, next_one = (float(value) for value in near[rank - before : rank - before + 2])
    part = place - rank
    step = next_one - one
    return one + step * part if part < 0.5 else next_one - step * (1 - part)
