"""Grey values to [0, 1], the range that the networks see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.errors import InputError

METHODS = ("robust", "min_max")
_PERCENTILES = (1.0, 99.8)  # nuclei fill 0.5 % of a volume or more: the upper one lies among their voxels


def normalise(image: NDArray[np.generic], method: str = "robust") -> NDArray[np.float32]:
    """Scale an image to [0, 1].

    Parameters
    ----------
    image
        Grey values, any shape.
    method
        ``min_max`` is the paper's (Tokuoka et al. 2020), which a single bright voxel compresses; ``robust``
        maps the 1st percentile to 0 and the 99.8th to 1 and clips what lies outside.

    Raises
    ------
    InputError
        If the method is unknown.
    """
    values = image.astype(np.float32, copy=False)
    if method == "min_max":
        low, high = float(values.min()), float(values.max())
    elif method == "robust":
        low, high = (float(v) for v in np.percentile(values, _PERCENTILES))
        if low == high:  # nuclei are rarer than the percentile sees
            low, high = float(values.min()), float(values.max())
    else:
        raise InputError(f"expected a normalisation of {', '.join(METHODS)}, got {method!r}")
    if low == high:
        return np.zeros_like(values)
    scaled: NDArray[np.float32] = np.clip((values - low) / (high - low), 0, 1)
    return scaled
