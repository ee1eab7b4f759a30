"""The middle of a volume in a box of fixed size, and back to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.resample import Shape
from qcanet_monai.errors import InputError

_Value = TypeVar("_Value", bound=np.generic)


class Window(NamedTuple):
    """What is cut out of a volume, and how many voxels are then put (before, after) it along each axis."""

    crop: tuple[slice, slice, slice]
    pads: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def centre_window(shape: Sequence[int], size: Shape) -> Window:
    """Where the middle of a volume lies, and what it lacks to fill a box.

    Parameters
    ----------
    shape
        Shape (Z, Y, X) of the volume.
    size
        Shape (Z, Y, X) of the box. Along an axis on which it is smaller, the volume is cropped, on others
        padded; where the difference is odd, the odd voxel is cropped, or padded, at the end.

    Raises
    ------
    InputError
        If the shape is not one of a volume, or the size not three positive numbers.
    """
    if len(shape) != 3 or len(size) != 3 or min(size) < 1:
        raise InputError(
            f"expected the shape of a volume (Z, Y, X) and a size of 3 voxels' numbers from 1 on, "
            f"got {tuple(shape)} and {tuple(size)}: give e.g. a size of 32 352 352"
        )
    begins = [max(0, (n - m) // 2) for n, m in zip(shape, size, strict=True)]
    lacks = [max(0, m - n) for n, m in zip(shape, size, strict=True)]
    z, y, x = (slice(b, b + min(n, m)) for b, n, m in zip(begins, shape, size, strict=True))
    above, left, front = ((lack // 2, lack - lack // 2) for lack in lacks)
    return Window((z, y, x), (above, left, front))


def crop_or_pad(array: NDArray[_Value], size: Shape) -> NDArray[_Value]:
    """Bring a volume to a size about its middle; what is padded is 0.

    Training and prediction crop to the middle, where the microscope keeps the object, and pad to a shape
    that the network's poolings divide.

    Parameters
    ----------
    array
        Volume (Z, Y, X).
    size
        Shape (Z, Y, X) to bring it to.

    Raises
    ------
    InputError
        If the array is no volume, or the size not three positive numbers.
    """
    crop, pads = centre_window(array.shape, size)
    padded: NDArray[_Value] = np.pad(array[crop], pads)
    return padded


def undo(cropped: NDArray[_Value], shape: Shape, fill: float = 0) -> NDArray[_Value]:
    """Put what `crop_or_pad` has made back where it came from.

    Parameters
    ----------
    cropped
        Volume (Z, Y, X).
    shape
        Shape (Z, Y, X) that the volume had before.
    fill
        Value of the voxels that were cropped away.

    Raises
    ------
    InputError
        If the array is no volume, or the shape not three positive numbers.
    """
    crop, pads = centre_window(shape, cropped.shape)
    whole = np.full(shape, fill, cropped.dtype)
    whole[crop] = cropped[tuple(slice(a, n - b) for (a, b), n in zip(pads, cropped.shape, strict=True))]
    return whole
