"""Conversion of arrays, volumes and image files to `Volume`."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcanet_monai.errors import InputError
from qcanet_monai.io.spacing import check_spacing
from qcanet_monai.io.volume import Volume, check_content, read_volume


def as_volume(
    image: npt.ArrayLike | Volume | str | PathLike[str], *, spacing: Sequence[float] | None = None
) -> Volume:
    """Convert an array, a volume or an image file to a `Volume`.

    Parameters
    ----------
    image : array_like of shape (Z, Y, X), Volume or path-like
        Intensities of any real dtype, kept unchanged; bool becomes uint8.
    spacing : sequence of 3 float, optional
        Voxel size (z, y, x) in µm; required for an array, overrides that of a volume or file.

    Raises
    ------
    InputError
        If the image is not one 3-D stack, fails `check_content`, or has no known voxel size.
    """
    if isinstance(image, str | PathLike):
        return read_volume(image, spacing=spacing)
    if isinstance(image, Volume):
        size = image.spacing if spacing is None else check_spacing(spacing, image.source)
        return Volume(image.array, size, image.source, image.time_index)
    array, source = np.asarray(image), Path("array")
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise InputError(
            f"expected grey values (Z, Y, X), got shape {array.shape} of {array.dtype}: give one channel of "
            "one time point"
        )
    if spacing is None:
        raise InputError("expected the voxel size of an array, got none: give spacing=(z, y, x) in um")
    size = check_spacing(spacing, source)
    array = array.astype(np.uint8) if array.dtype.kind == "b" else array
    check_content(array, source)
    return Volume(array, size, source)
