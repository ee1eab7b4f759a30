"""Selection of one 3-D stack from an array with named axes."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy.typing as npt

from qcanet_monai.errors import InputError
from qcanet_monai.io.spacing import Stated

AxesChoice = tuple[tuple[int | slice, ...], tuple[int, int, int]]
"""Index into the file's array, and the axis order that transposes the selection to (Z, Y, X)."""


class Stack(NamedTuple):
    """One 3-D stack of a file, and what the file says of it.

    Attributes
    ----------
    array : ndarray, shape (Z, Y, X)
        File's dtype in native byte order.
    stated : tuple of 3 float or None
        Voxel size (z, y, x) in µm; None for each axis without a stated size and unit.
    min_is_white : bool
        The file declares that its lowest value is white.
    conflict : str
        Two voxel sizes that the file states, or an empty text.
    """

    array: npt.NDArray[Any]
    stated: Stated
    min_is_white: bool = False
    conflict: str = ""


_EXPECTED = "expected a 3-D stack of one channel (Z, Y, X)"
_NAMES = {"C": ("channel", "channels", "--channel"), "T": ("time point", "time points", "--frame")}
_UNNAMED = "IQ"  # tifffile's names of a page axis without a description


def choose_axes(
    axes: str,
    shape: Sequence[int],
    *,
    channel: int | None,
    frame: int | None,
    source: str | PathLike[str],
) -> AxesChoice:
    """Select the single-channel stack in an array with named axes.

    Parameters
    ----------
    axes : str
        One letter per axis: Z, Y, X, C (channel), T (time), S (colour sample), I or Q (unnamed).
    shape : sequence of int
        Shape of the array.
    channel, frame : int, optional
        Channel and time point, from 0; required if the array has several.
    source : path-like
        File name for the error message.

    Returns
    -------
    index : tuple of int or slice
        Index of the stack: ``array[index]``.
    order : tuple of 3 int
        Order of its axes: ``array[index].transpose(order)`` has axes (Z, Y, X).

    Raises
    ------
    InputError
        If the array is empty, 2-D or RGB, has several unnamed axes, or a choice is missing or out of range.
    """
    if 0 in shape or not shape:
        raise InputError(
            f"{source}: {_EXPECTED}, got no voxels (shape: {_times(shape) or 'nothing'}): export it again"
        )
    axes = _name_page_axis(axes, shape)
    _check_kind(axes, shape, source)
    wanted = {"C": _choose("C", axes, shape, channel, source), "T": _choose("T", axes, shape, frame, source)}
    index = tuple(slice(None) if axis in "ZYX" else wanted.get(axis, 0) for axis in axes)
    kept = [axis for axis in axes if axis in "ZYX"]
    return index, (kept.index("Z"), kept.index("Y"), kept.index("X"))


def _name_page_axis(axes: str, shape: Sequence[int]) -> str:
    """Rename the only unnamed axis with more than one entry to Z, if Z is missing."""
    long = [i for i, axis in enumerate(axes) if axis in _UNNAMED and shape[i] > 1]
    if len(long) == 1 and "Z" not in axes:
        return axes[: long[0]] + "Z" + axes[long[0] + 1 :]
    return axes


def _check_kind(axes: str, shape: Sequence[int], source: str | PathLike[str]) -> None:
    def size(axis: str) -> int:
        return shape[axes.index(axis)] if axis in axes else 1

    if size("S") > 1:
        kind = "an RGB image" if size("S") in (3, 4) else f"an image of {size('S')} samples per pixel"
        raise InputError(f"{source}: {_EXPECTED}, got {kind}: save one colour as a grey-scale stack")
    if any(n > 1 for axis, n in zip(axes, shape, strict=True) if axis not in "TZCYXS"):
        raise InputError(
            f"{source}: {_EXPECTED}, got unnamed dimensions {_times(shape)}: "
            "save it as ImageJ TIFF or OME-TIFF, which name the dimensions"
        )
    plane = f"{size('Y')} × {size('X')} pixels"
    # tifffile drops a side of one pixel; such an image is flat too.
    if size("Z") > 1 and "Y" in axes and "X" in axes:
        return
    if size("Z") > 1:
        raise InputError(f"{source}: {_EXPECTED}, got {size('Z')} slices of {plane}: crop less")
    for axis in "TC":
        if size(axis) > 1:
            raise InputError(
                f"{source}: {_EXPECTED}, got {size(axis)} {_NAMES[axis][1]} of {plane} without a z axis: if "
                f"the {_NAMES[axis][1]} are slices, save them as slices (ImageJ: Image > Properties, Slices)"
            )
    raise InputError(f"{source}: {_EXPECTED}, got a 2-D image of {plane}: save all slices in one file")


def _choose(
    axis: str, axes: str, shape: Sequence[int], chosen: int | None, source: str | PathLike[str]
) -> int:
    name, names, option = _NAMES[axis]
    count = shape[axes.index(axis)] if axis in axes else 1
    if chosen is None:
        if count > 1:
            raise InputError(f"{source} has {count} {names}: choose one with {option} 0..{count - 1}")
        return 0
    if not 0 <= chosen < count:
        mend = f"choose one with {option} 0..{count - 1}" if count > 1 else f"leave {option} out"
        raise InputError(f"{source} has {count} {names if count > 1 else name}, got number {chosen}: {mend}")
    return int(chosen)


def _times(shape: Sequence[int]) -> str:
    return " × ".join(str(n) for n in shape)
