"""Files' names: their order, their stems, the images of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from qcanet_monai.errors import InputError
from qcanet_monai.io.volume import IMAGE_SUFFIXES

_NUMBERS = re.compile(r"(\d+)")
_SUFFIXES = (".ome.tiff", ".ome.tif", *sorted(IMAGE_SUFFIXES, key=len, reverse=True))


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key in which `t2` comes before `t10`."""
    parts = _NUMBERS.split(text)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts]


def stem_of(path: str | PathLike[str]) -> str:
    """Name of an image file without its suffix: `a` of `a.tif`, `a.ome.tif` and `a.nii.gz`."""
    name = Path(path).name
    suffix = next((s for s in _SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def list_images(paths: Iterable[str | PathLike[str]]) -> list[Path]:
    """Files as given; of each folder the images in it, in natural order.

    Raises
    ------
    InputError
        If a path does not exist, a folder holds no image, or two images have the same stem (their results
        would collide).
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} does not exist")
        if not path.is_dir():
            found.append(path)
            continue
        inside = [p for p in path.iterdir() if p.is_file() and p.name.lower().endswith(IMAGE_SUFFIXES)]
        inside = [p for p in inside if not p.name.startswith(".")]
        if not inside:
            raise InputError(f"expected images in {path}, found none: .tif, .tiff, .nii or .nii.gz")
        found += sorted(inside, key=lambda p: natural_key(p.name))
    seen: dict[str, Path] = {}
    for path in found:
        other = seen.setdefault(stem_of(path), path)
        if other is not path:
            raise InputError(
                f"{other} and {path} would both write {stem_of(path)}_labels.tif: "
                "rename one or segment them apart"
            )
    return found


def image_items(paths: Iterable[str | PathLike[str]]) -> list[dict[str, str]]:
    """Images of files and folders as the items of a MONAI dataset."""
    return [{"image": str(path)} for path in list_images(paths)]
