"""Which part of a file's array is the one 3-D image: axes named, chosen from, or refused in one line."""

from collections.abc import Sequence
from os import PathLike

from qcanet_monai.errors import InputError

__all__ = ["AxesChoice", "choose_axes"]

AxesChoice = tuple[tuple[int | slice, ...], tuple[int, int, int]]
"""An index into the file's array, and the order that puts what remains into (Z, Y, X)."""

_EXPECTED = "expected a 3-D stack of one channel (Z, Y, X)"
_NAMES = {"C": ("channel", "channels", "--channel"), "T": ("time point", "time points", "--frame")}
_UNNAMED = "IQ"  # what tifffile calls a page axis that nothing describes


def choose_axes(
    axes: str,
    shape: Sequence[int],
    *,
    channel: int | None,
    frame: int | None,
    source: str | PathLike[str],
) -> AxesChoice:
    """Find the one single-channel stack in an array with named axes.

    Parameters
    ----------
    axes : str
        A letter per axis: Z, Y, X, C (channel), T (time), S (colour sample), I or Q (unnamed).
    shape : sequence of int
        The array's shape.
    channel, frame : int, optional
        The caller's choice, from 0; needed where there are several.
    source : path-like
        The file, for the message.

    Returns
    -------
    index : tuple of int or slice
        Select with ``array[index]``.
    order : tuple of 3 int
        Then ``.transpose(order)`` gives (Z, Y, X).

    Raises
    ------
    InputError
        If the file is empty, 2-D, RGB, has axes that cannot be told, or needs a choice.
    """
    if 0 in shape or not shape:
        raise InputError(f"{source} is empty: its shape is {_times(shape) or 'nothing'}; {_EXPECTED}")
    axes = _name_page_axis(axes, shape)
    _check_kind(axes, shape, source)
    wanted = {"C": _choose("C", axes, shape, channel, source), "T": _choose("T", axes, shape, frame, source)}
    index = tuple(slice(None) if axis in "ZYX" else wanted.get(axis, 0) for axis in axes)
    kept = [axis for axis in axes if axis in "ZYX"]
    return index, (kept.index("Z"), kept.index("Y"), kept.index("X"))


def _name_page_axis(axes: str, shape: Sequence[int]) -> str:
    """Call the only unnamed axis with more than one entry Z, where no axis is called so."""
    long = [i for i, axis in enumerate(axes) if axis in _UNNAMED and shape[i] > 1]
    if len(long) == 1 and "Z" not in axes:
        return axes[: long[0]] + "Z" + axes[long[0] + 1 :]
    return axes


def _check_kind(axes: str, shape: Sequence[int], source: str | PathLike[str]) -> None:
    def size(axis: str) -> int:
        return shape[axes.index(axis)] if axis in axes else 1

    if size("S") > 1:
        kind = "an RGB image" if size("S") in (3, 4) else f"an image of {size('S')} samples per pixel"
        raise InputError(f"{source} is {kind}; {_EXPECTED}: split the colours and save one as grey values")
    if any(n > 1 for axis, n in zip(axes, shape, strict=True) if axis not in "TZCYXS"):
        raise InputError(
            f"{source} has dimensions {_times(shape)} and does not state what each is; {_EXPECTED}: "
            "save it as ImageJ TIFF or OME-TIFF, which name them"
        )
    plane = f"{size('Y')} × {size('X')} pixels"
    # A side of one pixel is dropped by tifffile, and the image is flat then too.
    if size("Z") > 1 and "Y" in axes and "X" in axes:
        return
    if size("Z") > 1:
        raise InputError(f"{source} is {size('Z')} slices of {plane}, no more than a plane; {_EXPECTED}")
    for axis in "TC":
        if size(axis) > 1:
            raise InputError(
                f"{source} has {size(axis)} {_NAMES[axis][1]} of 2-D images of {plane} and no z axis; "
                f"{_EXPECTED}: if they are z slices, save them so (in ImageJ: Image > Properties, Slices)"
            )
    raise InputError(f"{source} is a 2-D image of {plane}; {_EXPECTED}")


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
        raise InputError(
            f"{source} has {count} {names if count > 1 else name} and none numbered {chosen}: {mend}"
        )
    return int(chosen)


def _times(shape: Sequence[int]) -> str:
    return " × ".join(str(n) for n in shape)
