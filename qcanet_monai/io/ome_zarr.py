"""OME-Zarr images, versions 0.1 to 0.5, read at full resolution.

See https://ngff.openmicroscopy.org. Metadata is read as plain JSON; the zarr library opens arrays only.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qcanet_monai.errors import InputError
from qcanet_monai.io.axes import Stack, choose_axes
from qcanet_monai.io.spacing import to_minutes, to_um
from qcanet_monai.io.suppress_logs import reading

_BLOSC = struct.Struct("<4x3I")  # header: bytes, bytes of a block, compressed bytes
_EXPANDED = 8  # filters may make a chunk larger than its voxels, at most so many times
_METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


class _Image(NamedTuple):
    folder: Path
    array: Any
    axes: str
    units: tuple[str | None, ...]
    scale: tuple[float | None, ...]


def is_zarr(path: str | PathLike[str]) -> bool:
    """Return whether a path is a Zarr folder."""
    return any((Path(path) / name).is_file() for name in _METADATA)


def is_plate(path: str | PathLike[str]) -> bool:
    """Return whether a path is the folder of an OME-Zarr plate."""
    try:
        return is_zarr(path) and "plate" in _attributes(Path(path))
    except (OSError, ValueError, AttributeError):
        return False


def read_zarr(path: str | PathLike[str], *, channel: int | None = None, frame: int | None = None) -> Stack:
    """Read one stack of an OME-Zarr image, as :func:`qcanet_monai.io.tiff.read_tiff`.

    `path` is the folder of an image, or of labels: ``IMAGE.ome.zarr/labels/NAME``. The stack has the full
    resolution; other chunks are not loaded.
    """
    with _open(path) as image:
        choice = choose_axes(image.axes, image.array.shape, channel=channel, frame=frame, source=path)
        _check_chunks(image.folder, image.array, choice[0])
        array = np.asarray(image.array[choice[0]]).transpose(choice[1])
        sizes = {
            axis: to_um(size, unit)
            for axis, size, unit in zip(image.axes, image.scale, image.units, strict=True)
        }
        stated = sizes["Z"], sizes["Y"], sizes["X"]
        return Stack(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")), stated)


def count_zarr_frames(path: str | PathLike[str]) -> int:
    """Return the number of time points of an OME-Zarr image."""
    with _open(path) as image:
        return int(dict(zip(image.axes, image.array.shape, strict=True)).get("T", 1))


def zarr_interval_min(path: str | PathLike[str]) -> float | None:
    """Return the minutes between time points of an OME-Zarr image, None if unstated."""
    with _open(path) as image:
        at = image.axes.find("T")
        return to_minutes(image.scale[at], image.units[at]) if at >= 0 else None


@contextmanager
def _open(path: str | PathLike[str]) -> Iterator[_Image]:
    """Open the full-resolution array; raise every failure as `InputError`."""
    with reading(path, "an OME-Zarr image"):
        yield _image(Path(path))


def _image(folder: Path) -> _Image:
    found = _attributes(folder)
    if "multiscales" not in found and "bioformats2raw.layout" in found:
        if is_zarr(folder / "1"):
            raise InputError(
                f"{folder}: expected one image, got several: give {folder / '0'}, {folder / '1'} ..."
            )
        folder = folder / "0"
        found = _attributes(folder)
    if "multiscales" not in found:
        kind = "a plate" if "plate" in found else "no multiscales metadata"
        raise InputError(f"{folder}: expected an OME-Zarr image, got {kind}: give the folder of one image")
    multiscale = found["multiscales"][0]
    version = str(found.get("version", multiscale.get("version", "")))
    if "coordinateSystems" in multiscale or re.fullmatch(r"0\.[6-9].*|[1-9].*", version):
        raise InputError(
            f"{folder}: expected an OME-Zarr image of version 0.1 to 0.5, got {version or '0.6'}: export it "
            "as 0.5 or as OME-TIFF"
        )
    levels = [(level, _array(folder, str(level["path"]))) for level in multiscale["datasets"]]
    level, array = max(
        levels, key=lambda one: one[1].size
    )  # the first, by the standard, is not always largest
    axes, units = _axes(multiscale.get("axes", ["t", "c", "z", "y", "x"]))
    scales = [_scale(part, len(axes)) for part in (level, multiscale)]
    scale = tuple(None if one is None else one * (more or 1) for one, more in zip(*scales, strict=True))
    return _Image(folder / str(level["path"]), array, axes, units, scale)


def _array(folder: Path, place: str) -> Any:
    """Open an array inside an image's folder."""
    import zarr

    if place.startswith("/") or ".." in Path(place).parts:
        raise InputError(f"{folder}: expected an array in this folder, got {place}: export the image again")
    _refuse_objects(folder / place)
    return zarr.open_array(store=str(folder / place), mode="r")


def _attributes(folder: Path) -> dict[str, Any]:
    """Read a group's attributes: ``.zattrs`` (Zarr 2) or ``zarr.json`` (Zarr 3)."""
    if (folder / "zarr.json").is_file():
        attributes = json.loads((folder / "zarr.json").read_text(encoding="utf-8")).get("attributes", {})
        return dict(attributes.get("ome", attributes))
    if (folder / ".zattrs").is_file():
        return dict(json.loads((folder / ".zattrs").read_text(encoding="utf-8")))
    return {}


def _check_chunks(folder: Path, array: Any, wanted: Sequence[int | slice]) -> None:
    """Refuse chunks that state impossible sizes: Blosc would end the process."""
    if array.shards is not None or not any("Blosc" in type(codec).__name__ for codec in array.compressors):
        return  # a shard begins with any chunk, or with its index
    most = _EXPANDED * math.prod(array.chunks) * array.dtype.itemsize
    places = (
        range(part // edge, part // edge + 1) if isinstance(part, int) else range(-(-size // edge))
        for part, edge, size in zip(wanted, array.chunks, array.shape, strict=True)
    )
    for place in product(*places):
        path = folder / array.metadata.encode_chunk_key(place)
        if not path.is_file():
            continue  # a chunk of zeros
        with path.open("rb") as file:
            header = file.read(_BLOSC.size).ljust(_BLOSC.size, b"\0")
        n_bytes, block, compressed = _BLOSC.unpack(header)
        if max(n_bytes, block) > most or compressed > path.stat().st_size:
            raise InputError(f"{path}: expected a compressed chunk, got a damaged one: export it again")


def _refuse_objects(folder: Path) -> None:
    """Refuse a pickled array before it is opened: unpickling can run any code."""
    for name in (".zarray", "zarr.json"):
        path = folder / name
        if path.is_file() and re.search(r'pickle|"\|O', path.read_text(encoding="utf-8"), re.IGNORECASE):
            raise InputError(f"{folder}: expected numbers, got pickled objects: export it again")


def _axes(stated: list[Any]) -> tuple[str, tuple[str | None, ...]]:
    """Return a letter and a unit per axis; before version 0.4 units are missing."""
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in stated]
    letters = "".join(name if (name := str(axis["name"]).upper()) in "TCZYX" else "Q" for axis in axes)
    return letters, tuple(axis.get("unit") for axis in axes)


def _scale(stated: dict[str, Any], length: int) -> tuple[float | None, ...]:
    for transformation in stated.get("coordinateTransformations", []):
        if transformation["type"] == "scale":
            return tuple(float(value) for value in transformation["scale"])
    return (None,) * length
