"""Atomic writes of label images and raw images with their voxel size."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcanet_monai.errors import OutputError
from qcanet_monai.io.atomic import replacing
from qcanet_monai.io.nifti import write_nifti
from qcanet_monai.io.spacing import check_spacing
from qcanet_monai.io.tiff import write_tiff
from qcanet_monai.io.volume import IMAGE_SUFFIXES, in_label_dtype


def write_labels(path: str | PathLike[str], labels: npt.NDArray[Any], *, spacing: Sequence[float]) -> None:
    """Write a label image with its voxel size, atomically.

    Parameters
    ----------
    path : path-like
        ``.tif``, ``.tiff`` (ImageJ for uint16, OME for uint32; zlib), ``.nii`` or ``.nii.gz``.
    labels : ndarray of int, shape (Z, Y, X)
        0 is background. Written as uint16, or uint32 where a label exceeds 65,535.
    spacing : sequence of 3 float
        Voxel size (z, y, x) in µm.

    Raises
    ------
    InputError
        If `spacing` is not a voxel size or `labels` is not a label image.
    OutputError
        If the file cannot be written or has another suffix.
    """
    _write(path, in_label_dtype(np.asarray(labels), path), spacing)


def write_volume(path: str | PathLike[str], array: npt.NDArray[Any], *, spacing: Sequence[float]) -> None:
    """Write a raw image with its voxel size, atomically.

    Parameters
    ----------
    path, spacing
        As :func:`write_labels`.
    array : ndarray, shape (Z, Y, X)
        uint8, uint16 or float32; float64 and float16 become float32, bool becomes uint8.

    Raises
    ------
    InputError
        If `spacing` is not a voxel size.
    OutputError
        If `array` has another dtype, or the file cannot be written or has another suffix.
    """
    image = np.asarray(array)
    image = image.astype({"b": np.uint8, "f": np.float32}.get(image.dtype.kind, image.dtype), copy=False)
    if image.dtype.name not in ("uint8", "uint16", "float32"):
        raise OutputError(
            f"cannot write {path}: expected uint8, uint16 or float32 voxels, got {image.dtype}: convert them"
        )
    _write(path, image, spacing)


def _write(path: str | PathLike[str], array: npt.NDArray[Any], spacing: Sequence[float]) -> None:
    size = check_spacing(spacing, path)
    if array.ndim != 3 or array.size == 0:
        raise OutputError(
            f"cannot write {path}: expected a non-empty (Z, Y, X) array, got shape {array.shape}"
        )
    name = Path(path).name.lower()
    if not name.endswith(IMAGE_SUFFIXES):
        raise OutputError(f"cannot write {path}: the name must end in .tif, .tiff, .nii or .nii.gz")
    with replacing(path) as temporary:
        if name.endswith((".tif", ".tiff")):
            write_tiff(temporary, array, spacing=size)
        else:
            write_nifti(temporary, array, spacing=size)
