"""`Volume`: one 3-D image with its voxel size; made here from files, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcanet_monai.errors import InputError
from qcanet_monai.io.nifti import count_nifti_frames, read_nifti
from qcanet_monai.io.ome_zarr import count_zarr_frames, is_zarr, read_zarr, zarr_interval_min
from qcanet_monai.io.spacing import Stated, resolve_spacing
from qcanet_monai.io.tiff import count_tiff_frames, read_tiff, tiff_interval_min

__all__ = [
    "IMAGE_SUFFIXES",
    "Volume",
    "check_content",
    "count_frames",
    "in_label_dtype",
    "read_interval_min",
    "read_labels",
    "read_volume",
]

IMAGE_SUFFIXES = (".tif", ".tiff", ".nii", ".nii.gz")
"""How the names of image files end, in lower case; OME-Zarr images are folders of any name."""

_UNKNOWN = (math.nan, math.nan, math.nan)
_READ = {"tiff": read_tiff, "nifti": read_nifti, "zarr": read_zarr}
_COUNT = {"tiff": count_tiff_frames, "nifti": count_nifti_frames, "zarr": count_zarr_frames}
_INTERVAL = {"tiff": tiff_interval_min, "zarr": zarr_interval_min}


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image of one channel at one time.

    Attributes
    ----------
    array : ndarray, shape (Z, Y, X)
        Grey values or labels, any real dtype.
    spacing : tuple of 3 float
        Voxel size (z, y, x) in µm; NaN where labels were read without one.
    source : Path
        The file it came from.
    time_index : int or None
        The time point chosen within the file, None where none was.
    """

    array: npt.NDArray[Any]
    spacing: tuple[float, float, float]
    source: Path
    time_index: int | None = None


def read_volume(
    path: str | PathLike[str],
    *,
    spacing: Sequence[float] | None = None,
    channel: int | None = None,
    frame: int | None = None,
) -> Volume:
    """Read a raw image from TIFF, OME-TIFF, NIfTI or OME-Zarr.

    Parameters
    ----------
    path : path-like
        The file.
    spacing : sequence of 3 float, optional
        Voxel size (z, y, x) in µm; it wins over what the file states.
    channel, frame : int, optional
        Which channel and time point, from 0, where the file has several.

    Returns
    -------
    Volume
        With the file's dtype in native byte order; bool becomes uint8.

    Raises
    ------
    InputError
        If the file is missing, unreadable, truncated, no single 3-D stack, without a voxel size, or
        without content (see :func:`check_content`).

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> _ = qcanet.simulate("data", embryos=1, timepoints=1, spacing=(4.0, 2.0, 2.0), workers=1)
    >>> image = qcanet.read_image("data/Images/train/Images/Emb01_t001.tif")
    >>> image.array.ndim, [round(edge, 3) for edge in image.spacing]
    (3, [4.0, 2.0, 2.0])
    """
    array, stated = _read(path, channel, frame)
    resolved = resolve_spacing(stated, spacing, path)
    check_content(array, path)
    return Volume(array, resolved, Path(path), frame)


def read_labels(
    path: str | PathLike[str],
    *,
    spacing: Sequence[float] | None = None,
    need_spacing: bool = True,
    frame: int | None = None,
) -> Volume:
    """Read a label image or mask: 0 is background.

    Parameters
    ----------
    path : path-like
        The file.
    spacing : sequence of 3 float, optional
        Voxel size (z, y, x) in µm; it wins over what the file states.
    need_spacing : bool
        Whether a file that does not state its voxel size is an error; else the size is NaN.
    frame : int, optional
        Which time point, from 0, where the file has several.

    Returns
    -------
    Volume
        Of uint16, or uint32 where a label exceeds 65,535.

    Raises
    ------
    InputError
        As :func:`read_volume`, or if a value is negative, fractional or above 4,294,967,295.

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> _ = qcanet.simulate("data", embryos=1, timepoints=1, spacing=(4.0, 2.0, 2.0), workers=1)
    >>> truth = qcanet.read_labels("data/GroundTruth/train/GroundTruth_QCANet/Emb01_t001.tif")
    >>> truth.array.dtype
    dtype('uint16')
    """
    array, stated = _read(path, None, frame)
    needed = need_spacing or spacing is not None or None not in stated
    resolved = resolve_spacing(stated, spacing, path) if needed else _UNKNOWN
    return Volume(in_label_dtype(array, path), resolved, Path(path), frame)


def count_frames(path: str | PathLike[str]) -> int:
    """Return the number of time points in an image file.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    return _COUNT[_kind(path)](path)


def read_interval_min(path: str | PathLike[str]) -> float | None:
    """Return the minutes between time points that a file states, None where it states none.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    kind = _kind(path)
    return None if kind == "nifti" else _INTERVAL[kind](path)


def check_content(array: npt.NDArray[Any], source: str | PathLike[str]) -> None:
    """Refuse a raw image in which nothing can be found.

    Parameters
    ----------
    array : ndarray
        Grey values.
    source : path-like
        The file, for the message.

    Raises
    ------
    InputError
        If a voxel is NaN or infinite, or all are alike.
    """
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(f"{source} holds {bad} NaN or infinite voxels: replace them and save it again")
    low, high = array.min(), array.max()
    if low == high:
        raise InputError(f"{source} has no contrast: every voxel is {low}; expected an image of nuclei")


def in_label_dtype(array: npt.NDArray[Any], source: str | PathLike[str]) -> npt.NDArray[Any]:
    """Return labels in the smallest of the two dtypes they are kept in, or refuse them.

    Parameters
    ----------
    array : ndarray
        Whole numbers of any real dtype; 0 is background.
    source : path-like
        The file, for the message.

    Returns
    -------
    ndarray, same shape
        A copy as uint16, or as uint32 where a label exceeds 65,535.

    Raises
    ------
    InputError
        If a value is negative, fractional, NaN or above 4,294,967,295.
    """
    expected = "expected labels: 0 for background, whole numbers from 1 for nuclei"
    if array.dtype.kind not in "uifb":
        raise InputError(f"{source} has {array.dtype.name} voxels; {expected}")
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise InputError(f"{source} has values that are no whole numbers; {expected}")
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if low < 0:
        raise InputError(f"{source} has the negative value {low}; {expected}")
    if high > np.iinfo(np.uint32).max:
        raise InputError(f"{source} has the value {high}, more than a label image can hold; {expected}")
    return array.astype(np.uint16 if high <= np.iinfo(np.uint16).max else np.uint32)


def _read(
    path: str | PathLike[str], channel: int | None, frame: int | None
) -> tuple[npt.NDArray[Any], Stated]:
    """Read the array and what the file states of its voxel size; refuse what is no real 3-D image."""
    array, stated = _READ[_kind(path)](path, channel=channel, frame=frame)
    if array.dtype.kind not in "uifb":
        raise InputError(f"{path} has {array.dtype.name} voxels; expected real numbers")
    return (array.astype(np.uint8) if array.dtype.kind == "b" else array), stated


def _kind(path: str | PathLike[str]) -> str:
    """Tell TIFF, NIfTI and OME-Zarr apart, of what can be opened; refuse every other."""
    if is_zarr(path):
        return "zarr"
    _check_file(path)
    name = Path(path).name.lower()
    if not name.endswith(IMAGE_SUFFIXES):
        raise InputError(
            f"{path} is no image of a known kind; expected .tif, .tiff, .nii, .nii.gz or an OME-Zarr folder"
        )
    return "tiff" if name.endswith(IMAGE_SUFFIXES[:2]) else "nifti"


def _check_file(path: str | PathLike[str]) -> None:
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError(f"{path} is a folder; expected an image file or an OME-Zarr image")
        if not file.exists():
            raise InputError(f"{path} does not exist")
        if not file.is_file():
            raise InputError(f"{path} is not a regular file; expected an image file")
        with file.open("rb") as stream:
            if not stream.read(1):
                raise InputError(f"{path} is empty (0 bytes): copy or export it again")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
