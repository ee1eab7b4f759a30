"""Grey values to [0, 1], the range that the networks see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.errors import InputError

METHODS = ("robust", "min_max", "soft", "standard")
_PERCENTILES = (1.0, 99.8)  # nuclei fill 0.5 % of a volume or more: the upper one lies among their voxels
_KNEE = 10.0  # `soft`: values below a tenth of the range stay linear, those above are compressed
_SAMPLE = 1 << 21  # percentiles copy what they look at: of twice as many voxels and more, they see a part
_FEW = 10_000  # values, of which NumPy's percentiles take no time
_SOFT_TOP = 1.5  # `soft`: 4.5 times the range and more


def normalise(image: NDArray[np.generic], method: str = "robust") -> NDArray[np.float32]:
    """Scale an image to [0, 1]; ``soft`` goes up to 1.5, ``standard`` has no ends.

    Parameters
    ----------
    image
        Grey values, any shape.
    method
        ``min_max`` is the paper's (Tokuoka et al. 2020), which a single bright voxel compresses; ``robust``
        maps the 1st percentile to 0 and the 99.8th to 1 and clips what lies outside; ``soft`` takes the
        same two values x and bends what lies between, asinh(10 x) / asinh(10), so that nuclei a tenth as
        bright as the brightest one stay at a third of its value; it clips at 1.5, not at 1. Where fewer
        than half of the voxels are exactly 0, with which files fill what lies outside the field, its
        percentiles leave them out. ``standard`` subtracts the mean and divides by the standard deviation.

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
        # nuclei rarer than the percentiles see leave the extremes
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
    """The values of which the percentiles are taken; of a large image, every n-th, n odd."""
    sample = values.ravel()[:: values.size // _SAMPLE | 1]
    if method != "soft":
        return sample
    seen = sample[sample != 0]
    return seen if 2 * seen.size > sample.size else sample


def _percentiles(values: NDArray[np.float32]) -> tuple[float, float]:
    """NumPy's percentiles, for which only the values near either end are ranked."""
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
    """The linear percentile of `size` values, of which `near` come after the `before` smallest."""
    place = percentile / 100 * (size - 1)
    rank = int(place)
    if not 0 <= rank - before < len(near) - 1:
        return None
    near.partition((rank - before, rank - before + 1))
    one, next_one = (float(value) for value in near[rank - before : rank - before + 2])
    part = place - rank
    step = next_one - one
    return one + step * part if part < 0.5 else next_one - step * (1 - part)
