"""Completeness checks of TIFF files: readers fill missing data with zeros.

Directory layout: TIFF revision 6.0 (Adobe, 1992), section 2, and its BigTIFF extension.
"""

import struct
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from qcanet_monai.errors import InputError

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}


class _Layout(NamedTuple):
    order: str
    """Byte order, as a `struct` prefix."""
    entries: str
    """`struct` code of a directory's number of entries."""
    offset: str
    """`struct` code of an offset into the file."""
    first: int
    """Position of the first directory's offset, in bytes."""

    def number(self, code: str, data: bytes, at: int = 0) -> int:
        return int(struct.unpack_from(self.order + code, data, at)[0])


_CLASSIC = {b"II*\0": "<", b"MM\0*": ">"}
_BIG = {b"II+\0": "<", b"MM\0+": ">"}


def check_directories(path: str | PathLike[str]) -> None:
    """Refuse a TIFF file that ends before its image directories do.

    Raises
    ------
    InputError
        If the file is not a TIFF, or a directory or one of its values lies beyond the end of the file.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        layout = _layout(file.read(4), path)
        offset = _number_at(file, layout.first, layout.offset, layout, path)
        seen: set[int] = set()
        if offset == 0:
            raise InputError(f"{path}: expected a TIFF image, got an unfinished file: export it again")
        while offset:
            if offset in seen:
                raise InputError(f"{path}: expected a chain of TIFF directories, got a loop: export it again")
            seen.add(offset)
            offset = _next_directory(file, offset, layout, size, path)


def check_planes(tif: Any, series: Any, path: str | PathLike[str]) -> None:
    """Refuse an open file whose only series has missing or truncated planes.

    Raises
    ------
    InputError
        If the file holds less data than it declares.
    """
    planes = _product(series.shape) // max(1, _product(series.keyframe.shape))
    declared = max(_declared(tif), planes)
    if planes < declared:
        raise _truncated(path, f"it declares {declared} planes and holds {planes}")
    if series.dataoffset is not None:
        missing = series.dataoffset + _product(series.shape) * series.dtype.itemsize - tif.filehandle.size
        if missing > 0:
            raise _truncated(path, f"{missing} bytes of the image are missing")
        return
    pages = list(series.pages)
    if len(pages) < planes:
        raise _truncated(path, f"it declares {planes} planes and holds {len(pages)}")
    for number, page in enumerate(pages):
        if page is None or not _whole(page):
            raise _truncated(path, f"plane {number} of {planes} is missing or cut off")


def _layout(magic: bytes, path: str | PathLike[str]) -> _Layout:
    if magic in _CLASSIC:
        return _Layout(_CLASSIC[magic], "H", "I", 4)
    if magic in _BIG:
        return _Layout(_BIG[magic], "Q", "Q", 8)
    raise InputError(f"{path}: expected a TIFF file, got the first bytes {magic!r}: export it again")


def _next_directory(
    file: BinaryIO, offset: int, layout: _Layout, size: int, path: str | PathLike[str]
) -> int:
    entries = _number_at(file, offset, layout.entries, layout, path)
    width = struct.calcsize(layout.offset)
    entry = 4 + 2 * width
    table = file.read(entries * entry) if entries * entry <= size else b""
    link = file.read(width)
    if entries == 0 or len(table) < entries * entry or len(link) < width:
        raise _truncated(path, "a directory is cut off")
    for at in range(0, len(table), entry):
        count = layout.number(layout.offset, table, at + 4)
        length = count * _TYPE_BYTES.get(layout.number("H", table, at + 2), 0)
        if length > width and layout.number(layout.offset, table, at + 4 + width) + length > size:
            raise _truncated(path, "a directory's values are cut off")
    return layout.number(layout.offset, link)


def _number_at(file: BinaryIO, at: int, code: str, layout: _Layout, path: str | PathLike[str]) -> int:
    file.seek(at)
    data = file.read(struct.calcsize(code))
    if len(data) < struct.calcsize(code):
        raise _truncated(path, "a directory is missing")
    return layout.number(code, data)


def _declared(tif: Any) -> int:
    """Return the number of planes that the description declares, or 0."""
    if tif.is_imagej:
        meta = tif.imagej_metadata or {}
        counts = [meta.get(key, 1) for key in ("frames", "slices", "channels")]
        # Colour samples may be declared as channels; tifffile then counts them within the page.
        colours = 1 if tif.pages[0].samplesperpixel == 1 else counts[2]
        return max(_product(counts) // colours, int(meta.get("images", 1)) // colours)
    if tif.is_shaped and tif.shaped_metadata:
        return _product(tif.shaped_metadata[0].get("shape", ())) // max(1, _product(tif.pages[0].shape))
    return 0


def _whole(page: Any) -> bool:
    """Return whether every strip of a page is non-empty and inside the file."""
    extents = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    size = page.parent.filehandle.size
    return bool(extents) and all(count > 0 and offset + count <= size for offset, count in extents)


def _product(numbers: Any) -> int:
    product = 1
    for number in numbers:
        product *= int(number)
    return product


def _truncated(path: str | PathLike[str], how: str) -> InputError:
    return InputError(f"{path} is truncated or damaged: {how}; copy or export it again")
