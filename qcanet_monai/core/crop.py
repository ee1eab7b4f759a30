"""Crop or pad a volume to a fixed size around its centre, and undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.resample import Shape
from qcanet_monai.errors import InputError

_Value = TypeVar("_Value", bound=np.generic)


class Window(NamedTuple):
    """Crop of a volume, and padding in voxels (before, after) along each axis."""

    crop: tuple[slice, slice, slice]
    pads: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def centre_window(shape: Sequence[int], size: Shape) -> Window:
    """Compute the crop and padding that fit a volume into a centred box.

    Parameters
    ----------
    shape
        Shape (Z, Y, X) of the volume.
    size
        Shape (Z, Y, X) of the box. Axes longer than the box are cropped, shorter axes are padded. If the
        difference is odd, the extra voxel is cropped or padded at the end.

    Raises
    ------
    InputError
        If the shape does not have three axes, or the size is not three positive numbers.
    """
    if len(shape) != 3 or len(size) != 3 or min(size) < 1:
        raise InputError(
            f"expected the shape of a volume (Z, Y, X) and a size of 3 integers above 0, "
            f"got {tuple(shape)} and {tuple(size)}: give e.g. a size of 32 352 352"
        )
    begins = [max(0, (n - m) // 2) for n, m in zip(shape, size, strict=True)]
    lacks = [max(0, m - n) for n, m in zip(shape, size, strict=True)]
    z, y, x = (slice(b, b + min(n, m)) for b, n, m in zip(begins, shape, size, strict=True))
    above, left, front = ((lack // 2, lack - lack // 2) for lack in lacks)
    return Window((z, y, x), (above, left, front))


def crop_or_pad(array: NDArray[_Value], size: Shape) -> NDArray[_Value]:
    """Crop or zero-pad a volume to a size, around its centre.

    Training and prediction crop to the centre, where the microscope keeps the object, and pad to a shape that
    the pooling factors of the network divide.

    Parameters
    ----------
    array
        Volume (Z, Y, X).
    size
        Shape (Z, Y, X) of the result.

    Raises
    ------
    InputError
        If the array is not 3-D, or the size is not three positive numbers.
    """
    crop, pads = centre_window(array.shape, size)
    padded: NDArray[_Value] = np.pad(array[crop], pads)
    return padded


def undo(cropped: NDArray[_Value], shape: Shape, fill: float = 0) -> NDArray[_Value]:
    """Undo `crop_or_pad`.

    Parameters
    ----------
    cropped
        Volume (Z, Y, X).
    shape
        Shape (Z, Y, X) of the original volume.
    fill
        Value of voxels that were cropped away.

    Raises
    ------
    InputError
        If the array is not 3-D, or the shape is not three positive numbers.
    """
    crop, pads = centre_window(shape, cropped.shape)
    whole = np.full(shape, fill, cropped.dtype)
    whole[crop] = cropped[tuple(slice(a, n - b) for (a, b), n in zip(pads, cropped.shape, strict=True))]
    return whole
