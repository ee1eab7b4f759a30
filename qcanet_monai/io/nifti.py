"""NIfTI volumes: (X, Y, Z) on disk, (Z, Y, X) in µm in memory."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcanet_monai.errors import InputError
from qcanet_monai.io.axes import Stack, choose_axes
from qcanet_monai.io.spacing import Stated, to_minutes, to_um
from qcanet_monai.io.suppress_logs import reading, suppress_logs

_CHUNK = 2**20
_UNITS = {"meter": "m", "mm": "mm", "micron": "um"}


def read_nifti(path: str | PathLike[str], *, channel: int | None = None, frame: int | None = None) -> Stack:
    """Read one stack of a NIfTI file, as :func:`qcanet_monai.io.tiff.read_tiff`.

    The axes of the file are (X, Y, Z), (X, Y, Z, T) or (X, Y, Z, T, C). Values that the header scales are
    floating point. The voxel size is None if the header names no unit.
    """
    with _open(path) as image:
        axes, shape = _axes(image)
        index, order = choose_axes(axes, shape, channel=channel, frame=frame, source=path)
        part = np.asanyarray(image.dataobj[index])
        if part.dtype.names is not None:
            raise InputError(f"{path}: expected grey values, got an RGB image: save one colour")
        array = part.transpose(order)
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        return Stack(array, _stated(image), conflict=_conflict(image))


def count_nifti_frames(path: str | PathLike[str]) -> int:
    """Return the number of time points (fourth dimension) of a NIfTI file."""
    with _open(path) as image:
        axes, shape = _axes(image)
        return int(dict(zip(axes, shape, strict=True)).get("T", 1))


def nifti_interval_min(path: str | PathLike[str]) -> float | None:
    """Return the minutes between time points of a NIfTI file, None if unstated."""
    with _open(path) as image:
        axes, _ = _axes(image)
        if "T" not in axes:
            return None
        return to_minutes(f"{image.header['pixdim'][4]:.7g}", image.header.get_xyzt_units()[1])


def write_nifti(
    path: str | PathLike[str], array: npt.NDArray[Any], *, spacing: tuple[float, float, float]
) -> None:
    """Write a stack (Z, Y, X) as NIfTI; `spacing` is its voxel size (z, y, x) in µm.

    The file is not written atomically, see :func:`qcanet_monai.io.atomic.replacing`.
    """
    import nibabel

    affine = np.diag([*spacing[::-1], 1.0])
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine, dtype=array.dtype)
    image.header.set_xyzt_units("micron", "sec")
    nibabel.save(image, path)


@contextmanager
def _open(path: str | PathLike[str]) -> Iterator[Any]:
    """Open a NIfTI file; raise every failure as `InputError`."""
    import nibabel

    with reading(path, "a whole NIfTI file"):
        _check_compressed(path)
        with suppress_logs("nibabel.global"):
            yield nibabel.load(path)


def _check_compressed(path: str | PathLike[str]) -> None:
    """Decompress to the checksum at the end, which nibabel does not reach."""
    if Path(path).suffix.lower() == ".gz":
        with gzip.open(path) as file:
            while file.read(_CHUNK):
                pass


def _axes(image: Any) -> tuple[str, tuple[int, ...]]:
    """Return axes in the standard's order (x, y, z, time, channels) and shape."""
    shape = tuple(int(n) for n in image.shape)
    return "XYZTCIIQ"[: len(shape)], shape


def _conflict(image: Any) -> str:
    """Return both voxel sizes if that of the affine (sform) is not that of pixdim."""
    affine, code = image.header.get_sform(coded=True)
    pixdim, edges = image.header.get_zooms()[:3], np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not code or np.allclose(pixdim, edges, rtol=0.01):
        return ""
    said = [" × ".join(f"{size:.4g}" for size in sizes[::-1]) for sizes in (pixdim, edges)]
    return f"{said[0]} (pixdim) and {said[1]} (sform)"


def _stated(image: Any) -> Stated:
    unit = _UNITS.get(image.header.get_xyzt_units()[0])
    # Sizes are stored as float32: seven digits restore the written value.
    x, y, z = (to_um(f"{size:.7g}", unit) for size in image.header.get_zooms()[:3])
    return z, y, x
