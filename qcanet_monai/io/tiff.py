"""TIFF stacks: read ImageJ, OME and plain files, write ImageJ or OME files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import tifffile

from qcanet_monai.errors import InputError
from qcanet_monai.io.axes import Stack, choose_axes
from qcanet_monai.io.spacing import NOT_STATED, Stated, to_minutes, to_um
from qcanet_monai.io.suppress_logs import reading, suppress_logs
from qcanet_monai.io.tiff_checks import check_directories, check_planes

_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
_CLASSIC_BYTES = 2**32 - 2**25  # size limit of a classic TIFF, less room for directories


def read_tiff(path: str | PathLike[str], *, channel: int | None = None, frame: int | None = None) -> Stack:
    """Read one stack of a TIFF file.

    Parameters
    ----------
    path : path-like
        An ImageJ, OME or plain multi-page TIFF. Pages without named axes are z slices.
    channel, frame : int, optional
        Channel and time point, from 0; required if the file has several.

    Raises
    ------
    InputError
        If the file is not a TIFF, incomplete, or not one single-channel stack.
    """
    with _open(path) as (tif, series):
        choice = choose_axes(series.axes, series.shape, channel=channel, frame=frame, source=path)
        with suppress_logs("tifffile") as records:
            part = _read_part(tif, series, choice[0], path)
        if any(record.levelname in ("ERROR", "CRITICAL") for record in records):
            raise InputError(f"{path} is damaged ({records[-1].getMessage()[:120]}): copy or export it again")
        array = part.transpose(choice[1])
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        return Stack(array, _stated(tif), min_is_white=int(series.keyframe.photometric) == 0)


def tiff_set(path: str | PathLike[str]) -> list[str]:
    """Return the names of all files of a multi-file OME-TIFF, else an empty list.

    Raises
    ------
    InputError
        If the file cannot be read, or names a file in another folder.
    """
    with reading(path, "a readable TIFF"), suppress_logs("tifffile"), tifffile.TiffFile(path) as tif:
        _refuse_entities(tif, path)
        names = _ome_files(tif, path)
    return names if len(names) > 1 else []


def count_tiff_frames(path: str | PathLike[str]) -> int:
    """Return the length of a TIFF file's time axis, 1 if it has none."""
    with _open(path) as (_, series):
        sizes = dict(zip(series.axes, series.shape, strict=True))
        return int(sizes.get("T", 1))


def tiff_interval_min(path: str | PathLike[str]) -> float | None:
    """Return the minutes between time points of a TIFF file, None if unstated."""
    with _open(path) as (tif, _):
        if tif.is_ome:
            pixels = _ome_pixels(tif.ome_metadata)
            found = {} if pixels is None else pixels.attrib
            value, unit = found.get("TimeIncrement"), found.get("TimeIncrementUnit", "s")
        else:
            meta = (tif.imagej_metadata or {}) if tif.is_imagej else {}
            value, unit = meta.get("finterval"), meta.get("tunit", "s")
    return to_minutes(value, unit)


def write_tiff(
    path: str | PathLike[str], array: npt.NDArray[Any], *, spacing: tuple[float, float, float]
) -> None:
    """Write a stack as zlib-compressed TIFF, with a voxel size that Fiji reads.

    The format is ImageJ's if it supports the dtype and size, else OME-TIFF.

    Parameters
    ----------
    path : path-like
        File, not written atomically; see :func:`qcanet_monai.io.atomic.replacing`.
    array : ndarray, shape (Z, Y, X)
        uint8, uint16 or float32 (ImageJ), or any other real dtype (OME).
    spacing : tuple of 3 float
        Voxel size (z, y, x) in µm.
    """
    z, y, x = spacing
    if array.dtype.name in _IMAGEJ_DTYPES and array.nbytes < _CLASSIC_BYTES:
        tifffile.imwrite(
            path,
            array,
            imagej=True,
            resolution=(_per_um(x), _per_um(y)),
            metadata={"axes": "ZYX", "spacing": z, "unit": "micron"},
            compression="zlib",
            photometric="minisblack",  # else 3 or 4 slices would be read as colours
        )
        return
    sizes: dict[str, Any] = {f"PhysicalSize{name}": size for name, size in zip("ZYX", spacing, strict=True)}
    units = {f"PhysicalSize{name}Unit": "µm" for name in "ZYX"}
    tifffile.imwrite(
        path,
        array,
        ome=True,
        bigtiff=array.nbytes >= _CLASSIC_BYTES,
        metadata={"axes": "ZYX"} | sizes | units,
        compression="zlib",
        photometric="minisblack",
    )


@contextmanager
def _open(path: str | PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """Open a complete TIFF of one series; raise every failure as `InputError`."""
    with reading(path, "a readable TIFF"):
        check_directories(path)
        with suppress_logs("tifffile"), tifffile.TiffFile(path) as tif:
            _refuse_entities(tif, path)
            _ome_files(tif, path)
            series = _only_series(tif, path)
            if not series.is_multifile:  # else some planes may be there and others not
                check_planes(tif, series, path)
            yield tif, series


def _only_series(tif: Any, path: str | PathLike[str]) -> Any:
    found = tif.series
    if len(found) == 1:
        return found[0]
    shapes = ", ".join(" × ".join(str(n) for n in series.shape) for series in found[:3])
    more = ", ..." if len(found) > 3 else ""
    raise InputError(
        f"{path}: expected a single stack, got {len(found)} separate images ({shapes}{more}): "
        "save each image as a separate file"
    )


def _read_part(
    tif: Any, series: Any, index: tuple[int | slice, ...], path: str | PathLike[str]
) -> npt.NDArray[Any]:
    """Read the planes that `index` selects, and where possible no others."""
    if series.dataoffset is not None:
        dtype = series.dtype.newbyteorder(tif.byteorder)
        whole = np.memmap(tif.filehandle.path, dtype, "r", series.dataoffset, series.shape)
        return np.array(whole[index])
    lead = series.shape[:-2]
    if series.axes.endswith("YX") and len(series.pages) == np.prod(lead, dtype=int):
        planes = np.arange(len(series.pages)).reshape(lead)[index[:-2]]
        if any(series.pages[plane] is None for plane in planes.ravel()):
            gone = [name for name in _ome_files(tif, path) if not (Path(path).parent / name).is_file()]
            raise InputError(
                f"{path} is one of several files of an image; {', '.join(gone) or 'a part'} is missing: copy "
                "or export it again"
            )
        pages = tif.asarray(key=planes.ravel().tolist(), series=0)
        return np.asarray(pages).reshape(planes.shape + tuple(series.shape[-2:]))
    return np.asarray(series.asarray())[index]


def _stated(tif: Any) -> Stated:
    if tif.is_ome:
        return _ome_spacing(tif.ome_metadata)
    if tif.is_imagej:
        return _imagej_spacing(tif)
    # A plain TIFF's resolution is meant for printers and lacks z.
    return NOT_STATED


def _imagej_spacing(tif: Any) -> Stated:
    """Read the voxel size as ImageJ does: its unit applies to the tags too."""
    meta = tif.imagej_metadata or {}
    unit = meta.get("unit")
    tags = tif.pages[0].tags

    def pixel(name: str, its_unit: Any) -> float | None:
        pixels, units = tags[name].value if name in tags else (0, 0)
        return to_um(units / pixels, its_unit) if pixels else None

    # ImageJ writes yunit and zunit only where they differ from the common unit.
    return (
        to_um(meta.get("spacing"), meta.get("zunit", unit)),
        pixel("YResolution", meta.get("yunit", unit)),
        pixel("XResolution", unit),
    )


def _ome_pixels(xml: str) -> ElementTree.Element | None:
    root = ElementTree.fromstring(xml)
    return next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)


def _ome_files(tif: Any, path: str | PathLike[str]) -> list[str]:
    """Return the files that OME-XML names; refuse those of other folders."""
    pixels = _ome_pixels(tif.ome_metadata) if tif.is_ome else None
    if pixels is None:
        return []
    names = dict.fromkeys(node.attrib["FileName"] for node in pixels.iter() if "FileName" in node.attrib)
    for name in names:
        if name != Path(name.replace("\\", "/")).name:
            raise InputError(
                f"{path}: expected the parts of an image in its folder, got {name}: export it again"
            )
    return [*names]


def _ome_spacing(xml: str) -> Stated:
    pixels = _ome_pixels(xml)
    if pixels is None:
        return NOT_STATED

    def size(axis: str) -> float | None:
        name = f"PhysicalSize{axis}"
        return to_um(pixels.get(name), pixels.get(f"{name}Unit", "µm"))

    return size("Z"), size("Y"), size("X")


def _refuse_entities(tif: Any, path: str | PathLike[str]) -> None:
    """Refuse XML entities before parsing: a few lines can expand to gigabytes."""
    text = str(tif.pages[0].description)
    if text.lstrip().startswith("<") and re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise InputError(f"{path}: expected OME-XML without a DOCTYPE, got one: export it again")


def _per_um(size: float) -> tuple[int, int]:
    """Return pixels per µm as a ratio of 32-bit integers, exact for few digits."""
    ratio = 1 / Fraction(f"{size:.9g}")
    if max(ratio.numerator, ratio.denominator) >= 2**32:
        ratio = ratio.limit_denominator(2**31 // max(1, int(ratio) + 1))
    return ratio.numerator, ratio.denominator
