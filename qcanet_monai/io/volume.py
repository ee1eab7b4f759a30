"""Volumes: 3-D images with their voxel size, read from files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

from qcanet_monai.errors import DataWarning, InputError
from qcanet_monai.io.axes import Stack
from qcanet_monai.io.nifti import count_nifti_frames, nifti_interval_min, read_nifti
from qcanet_monai.io.ome_zarr import count_zarr_frames, is_zarr, read_zarr, zarr_interval_min
from qcanet_monai.io.spacing import resolve_spacing
from qcanet_monai.io.tiff import count_tiff_frames, read_tiff, tiff_interval_min

IMAGE_SUFFIXES = (".tif", ".tiff", ".nii", ".nii.gz")
"""Suffixes of image files, in lower case; OME-Zarr images are folders of any name."""

_FEW_PAIRS = 1000  # pairs of neighbours from which grey values are recognised
_PIECE = 0.1  # smaller pieces of a label, relative to the largest, may be specks of one nucleus
_UNKNOWN = (math.nan, math.nan, math.nan)
_READ = {"tiff": read_tiff, "nifti": read_nifti, "zarr": read_zarr}
_COUNT = {"tiff": count_tiff_frames, "nifti": count_nifti_frames, "zarr": count_zarr_frames}
_INTERVAL = {"tiff": tiff_interval_min, "nifti": nifti_interval_min, "zarr": zarr_interval_min}


@dataclass(frozen=True, eq=False)
class Volume:
    """3-D image of one channel at one time point.

    Attributes
    ----------
    array : ndarray, shape (Z, Y, X)
        Intensities or labels, any real dtype.
    spacing : tuple of 3 float
        Voxel size (z, y, x) in µm; NaN for labels read without a voxel size.
    source : Path
        File of the image.
    time_index : int or None
        Time point selected from the file, None without a selection.
    doubts : tuple of str
        What the file says of itself that may be wrong; each names the option that settles it.
    """

    array: npt.NDArray[Any]
    spacing: tuple[float, float, float]
    source: Path
    time_index: int | None = None
    doubts: tuple[str, ...] = ()


def read_volume(
    path: str | PathLike[str],
    *,
    spacing: Sequence[float] | None = None,
    channel: int | None = None,
    frame: int | None = None,
    invert: bool | None = None,
) -> Volume:
    """Read a raw image from TIFF, OME-TIFF, NIfTI or OME-Zarr.

    Parameters
    ----------
    path : path-like
        Image file, or folder of an OME-Zarr image.
    spacing : sequence of 3 float, optional
        Voxel size (z, y, x) in µm; overrides that of the file.
    channel, frame : int, optional
        Channel and time point, from 0; required if the file has several.
    invert : bool, optional
        Invert the grey values of an image of dark nuclei. By default they are kept, with a doubt if the file
        declares that its lowest value is white.

    Returns
    -------
    Volume
        File's dtype in native byte order; bool becomes uint8.

    Raises
    ------
    InputError
        If the file is missing, unreadable or truncated, is not a single 3-D stack, has no known or no
        plausible voxel size, or fails :func:`check_content`.

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> _ = qcanet.simulate("data", embryos=1, timepoints=1, spacing=(4.0, 2.0, 2.0), workers=1)
    >>> image = qcanet.read_image("data/Images/train/Images/Emb01_t001.tif")
    >>> image.array.ndim, [round(edge, 3) for edge in image.spacing]
    (3, [4.0, 2.0, 2.0])
    """
    stack = _read(path, channel, frame)
    resolved, array = _resolved(stack, spacing, path), stack.array
    check_content(array, path if frame is None else f"{path}, frame {frame}")
    if invert:
        array = _inverted(array)
    doubts = ("declares MinIsWhite: give --invert if its nuclei are dark, --no-invert if they are bright",)
    return Volume(array, resolved, Path(path), frame, doubts * (stack.min_is_white and invert is None))


def read_labels(
    path: str | PathLike[str],
    *,
    spacing: Sequence[float] | None = None,
    need_spacing: bool = True,
    frame: int | None = None,
    instances: bool = True,
) -> Volume:
    """Read a label image or mask; 0 is background.

    Parameters
    ----------
    path, spacing, frame
        As :func:`read_volume`.
    need_spacing : bool
        Raise an error if the file states no voxel size; if False, the size is NaN.
    instances : bool
        Emit a `DataWarning` if one label covers several separate objects, as in a mask.

    Returns
    -------
    Volume
        Labels as uint16, or as uint32 if a label exceeds 65,535.

    Raises
    ------
    InputError
        As :func:`read_volume`, or if the values are grey values, or one is negative, fractional or above
        4,294,967,295.

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> _ = qcanet.simulate("data", embryos=1, timepoints=1, spacing=(4.0, 2.0, 2.0), workers=1)
    >>> truth = qcanet.read_labels("data/GroundTruth/train/GroundTruth_QCANet/Emb01_t001.tif")
    >>> truth.array.dtype
    dtype('uint16')
    """
    stack = _read(path, None, frame)
    needed = need_spacing or spacing is not None or None not in stack.stated
    resolved = _resolved(stack, spacing, path) if needed else _UNKNOWN
    labels = in_label_dtype(stack.array, path)
    check_labels(labels, path)
    if instances:
        _warn_of_mask(labels, path)
    return Volume(labels, resolved, Path(path), frame)


def count_frames(path: str | PathLike[str]) -> int:
    """Return the number of time points in an image file, or raise `InputError`."""
    return _COUNT[_kind(path)](path)


def read_interval_min(path: str | PathLike[str]) -> float | None:
    """Return the minutes between an image file's time points, None if unstated."""
    return _INTERVAL[_kind(path)](path)


def check_content(array: npt.NDArray[Any], source: str | PathLike[str]) -> None:
    """Refuse a raw image, of any shape, without contrast or with non-finite voxels.

    Raises
    ------
    InputError
        If a voxel is NaN or infinite, or all voxels are equal; the message names the file `source`.
    """
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(
                f"{source}: expected finite voxels, got {bad} NaN or infinite voxels: replace them"
            )
    low, high = array.min(), array.max()
    if low == high:
        raise InputError(
            f"{source}: expected an image of nuclei, got no contrast (every voxel is {low}): check the image"
        )


def in_label_dtype(array: npt.NDArray[Any], source: str | PathLike[str]) -> npt.NDArray[Any]:
    """Copy labels as uint16, or as uint32 if a label exceeds 65,535.

    The array holds whole numbers in any shape and real dtype; 0 is background.

    Raises
    ------
    InputError
        If a value is negative, fractional, NaN or above 4,294,967,295; the message names the file `source`.
    """
    expected = "expected labels (0 for background, whole numbers from 1 for nuclei)"
    if array.dtype.kind not in "uifb":
        raise InputError(f"{source}: {expected}, got {array.dtype.name} voxels: give a label image")
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise InputError(f"{source}: {expected}, got fractions or NaN: give a label image")
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if low < 0:
        raise InputError(f"{source}: {expected}, got the negative value {low}: give a label image")
    if high > np.iinfo(np.uint32).max:
        raise InputError(f"{source}: {expected}, got {high}, which exceeds uint32: renumber the labels")
    return array.astype(np.uint16 if high <= np.iinfo(np.uint16).max else np.uint32)


def check_labels(labels: npt.NDArray[Any], source: str | PathLike[str]) -> None:
    """Refuse grey values; most neighbours of a label's voxel have the same label.

    Raises
    ------
    InputError
        If most neighbours along x, both labelled, differ; the message names the file `source`.
    """
    one, other = labels[..., 1:], labels[..., :-1]
    both = (one > 0) & (other > 0)
    pairs, same = np.count_nonzero(both), np.count_nonzero(both & (one == other))
    if pairs >= _FEW_PAIRS and same < pairs / 2:
        raise InputError(
            f"{source}: expected labels (0 for background, one number per nucleus), got grey values that "
            "change from voxel to voxel: give the label image"
        )


def _warn_of_mask(labels: npt.NDArray[Any], source: str | PathLike[str]) -> None:
    number = labels.max(initial=0)
    if number == 0 or not np.isin(labels, (0, number)).all():
        return
    sizes = np.bincount(ndi.label(labels)[0].ravel())[1:]
    objects = int(np.count_nonzero(sizes >= _PIECE * sizes.max()))
    if objects > 1:
        warnings.warn(
            f"{source}: one label, {number}, covers {objects} separate objects, as in a mask: give every "
            "nucleus a number of its own if they are several",
            DataWarning,
            stacklevel=3,
        )


def _read(path: str | PathLike[str], channel: int | None, frame: int | None) -> Stack:
    """Read a stack of real numbers, and what the file says of it."""
    stack = _READ[_kind(path)](path, channel=channel, frame=frame)
    if stack.array.dtype.kind not in "uifb":
        raise InputError(f"{path}: expected real numbers, got {stack.array.dtype.name} voxels: convert them")
    return stack._replace(array=stack.array.astype(np.uint8)) if stack.array.dtype.kind == "b" else stack


def _resolved(
    stack: Stack, given: Sequence[float] | None, path: str | PathLike[str]
) -> tuple[float, float, float]:
    if stack.conflict and given is None:
        raise InputError(
            f"{path}: expected one voxel size, got {stack.conflict}: give the right one with --spacing Z Y X"
        )
    return resolve_spacing(stack.stated, given, path)


def _inverted(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Mirror grey values within their range, without overflow."""
    if array.dtype.kind == "f":
        return array.max() - array + array.min()
    unsigned = array.view(f"u{array.dtype.itemsize}")
    low, high = array.min().view(unsigned.dtype), array.max().view(unsigned.dtype)
    return (high - unsigned + low).view(array.dtype)  # modulo 2^n, and the result is within the range


def _kind(path: str | PathLike[str]) -> str:
    """Return the format of a readable file; refuse other formats."""
    if is_zarr(path):
        return "zarr"
    _check_file(path)
    name = Path(path).name.lower()
    if not name.endswith(IMAGE_SUFFIXES):
        raise InputError(
            f"{path}: expected .tif, .tiff, .nii, .nii.gz or an OME-Zarr folder, got another suffix: "
            "convert the image"
        )
    return "tiff" if name.endswith(IMAGE_SUFFIXES[:2]) else "nifti"


def _check_file(path: str | PathLike[str]) -> None:
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError(
                f"{path}: expected an image file or an OME-Zarr image, got a folder: give one of its files"
            )
        if not file.exists():
            raise InputError(f"{path} does not exist")
        if not file.is_file():
            raise InputError(
                f"{path}: expected an image file, got a pipe or device: save the image as a file"
            )
        with file.open("rb") as stream:
            if not stream.read(1):
                raise InputError(f"{path} is empty (0 bytes): copy or export it again")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
