"""File names: natural order, stems, series, and the images of a folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from qcanet_monai.errors import InputError
from qcanet_monai.io.ome_zarr import is_plate, is_zarr
from qcanet_monai.io.tiff import tiff_set
from qcanet_monai.io.volume import IMAGE_SUFFIXES, count_frames, read_interval_min

_FRAME = re.compile(r"^(.*?)[_\-. ]*(?:[tT]|frame)?(\d+)$")
_PLACE = re.compile(r"^(.+?)([_\-. ](?:c|ch|channel|w|fov|field|pos|position|xy)\d+)$", re.IGNORECASE)
"""Channel or position at the end of a name, which is no time."""
_PLACED_FRAME = re.compile(r"^(.*?)[_\-. ]+(?:t|frame)?(\d+)$", re.IGNORECASE)
_STAMP = re.compile(
    r"^(.*?)[_\-. ]*((?:19|20)\d\d)([-_.]?)(\d\d)\3(\d\d)"  # date
    r"(?:[-_. T]*(\d\d)([-_.:h]?)(\d\d)(?:[-_.:m]?(\d\d)s?)?)?$"  # time of day
)
_NUMBERS = re.compile(r"(\d+)")
_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.zarr", ".zarr", *sorted(IMAGE_SUFFIXES, key=len, reverse=True))


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Return a sort key that orders `t2` before `t10`."""
    parts = _NUMBERS.split(text)
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts]


class Frame(NamedTuple):
    """Time point, counted from 0, of a file that holds several."""

    path: Path
    number: int

    def __str__(self) -> str:
        return f"{self.path}, frame {self.number}"


def stem_of(path: str | PathLike[str]) -> str:
    """Return the name without suffix: `a` of `a.tif`, `a.ome.tif` and `a.nii.gz`.

    Field 0 in well A/1 of an OME-Zarr plate has the stem `plate_A1_field0`. Labels inside an OME-Zarr image,
    `a.ome.zarr/labels/nuclei`, have the stem of the image.
    """
    path = Path(path)
    if len(path.parents) > 2 and is_zarr(path) and is_plate(path.parents[2]):
        return f"{stem_of(path.parents[2])}_{path.parents[1].name}{path.parent.name}_field{path.name}"
    within = path.parent.name == "labels" and is_zarr(path.parents[1])
    name = (path.parents[1] if within else path).name
    suffix = next((s for s in _SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


class Series(NamedTuple):
    """Images of one embryo over time: stems and ascending frame numbers.

    `hours` since the first image are known if the names end in dates or times.
    """

    name: str
    stems: list[str]
    frames: list[int]
    hours: list[float] | None = None

    def times_h(self, interval_min: float) -> list[float]:
        """Return the hours since the first image; names go before the interval."""
        return self.hours or [(frame - self.frames[0]) * interval_min / 60 for frame in self.frames]

    @property
    def missing(self) -> list[int]:
        """Missing frame numbers between the first and the last."""
        return sorted({*range(self.frames[0], self.frames[-1])} - {*self.frames})


def group_series(stems: Iterable[str]) -> list[Series]:
    """Group stems by series, in natural order: `Emb01_t003` is frame 3 of `Emb01`.

    The text before a stem's last number names the series. A stem without a number at its end is a series
    with the single frame 0. Dates and times at the end, ``Emb01_20230105_103000``, order the frames. Channels
    and positions, ``Emb01_t003_ch1``, belong to the name of the series.

    Raises
    ------
    InputError
        If two stems are the same frame of a series.
    """
    numbered: dict[str, dict[int, str]] = {}
    dated: dict[str, dict[datetime, str]] = {}
    for stem in stems:
        name, moment = _moment(stem)
        if isinstance(moment, datetime):
            other = dated.setdefault(name, {}).setdefault(moment, stem)
        else:
            other = numbered.setdefault(name, {}).setdefault(moment, stem)
        if other != stem:
            raise InputError(f"{other} and {stem} are both frame {moment} of {name}: rename or remove one")
    found = [
        Series(name, [frames[number] for number in sorted(frames)], sorted(frames))
        for name, frames in numbered.items()
    ]
    found += [_dated(name, frames) for name, frames in dated.items()]
    return sorted(found, key=lambda series: natural_key(series.name))


def _dated(name: str, stems: dict[datetime, str]) -> Series:
    moments = sorted(stems)
    hours = [(moment - moments[0]).total_seconds() / 3600 for moment in moments]
    return Series(name, [stems[moment] for moment in moments], [*range(len(moments))], hours)


def _moment(stem: str) -> tuple[str, int | datetime]:
    """Return the name of a stem's series, and the frame or the date and time."""
    placed = _PLACE.match(stem)
    if placed:
        match = _PLACED_FRAME.match(placed[1])
        return (match[1] + placed[2], int(match[2])) if match else (stem, 0)
    stamp = _STAMP.match(stem)
    if stamp:
        year, month, day, hour, minute, second = (int(stamp[group] or 0) for group in (2, 4, 5, 6, 8, 9))
        try:
            return stamp[1] or "series", datetime(year, month, day, hour, minute, second)
        except ValueError:  # no date, such as frame 20019999
            pass
    match = _FRAME.match(stem)
    return (match[1] or "series", int(match[2])) if match else (stem, 0)


def image_stem(image: Path | Frame) -> str:
    """Return the stem of an image's results; a `Frame` adds ``_t000`` and so on."""
    return f"{stem_of(image.path)}_t{image.number:03d}" if isinstance(image, Frame) else stem_of(image)


def label_stem(image: Path | Frame) -> str:
    """Return the stem of the image that labels belong to: `a` of `a_labels.tif`."""
    return re.sub(r"_labels(_t\d+)?$", r"\1", image_stem(image))


def list_images(paths: Iterable[str | PathLike[str]]) -> list[Path]:
    """Return the given files and OME-Zarr images, and the images of folders.

    The images of a folder are in natural order. Files that together are one OME-TIFF count as one image,
    which the first of them names.

    Raises
    ------
    InputError
        If a path does not exist, a folder holds no image, or two images have the same stem, so that their
        results would collide.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{path} does not exist")
        if not path.is_dir() or is_zarr(path):
            found.append(path)
            continue
        inside = [p for p in path.iterdir() if not p.name.startswith(".") and _is_image(p)]
        if not inside:
            raise InputError(
                f"expected images in {path}, found none: add .tif, .tiff, .nii, .nii.gz or OME-Zarr"
            )
        found += sorted(inside, key=lambda p: natural_key(p.name))
    found = _one_per_set(found)
    seen: dict[str, Path] = {}
    for path in found:
        other = seen.setdefault(stem_of(path), path)
        if other is not path:
            raise InputError(
                f"{other} and {path} would both write {stem_of(path)}_labels.tif: "
                "rename one or segment them separately"
            )
    return found


def _one_per_set(paths: list[Path]) -> list[Path]:
    """Keep the first of the files that together are one OME-TIFF."""
    kept: list[Path] = []
    others: set[Path] = set()
    for path in paths:
        if path in others:
            continue
        kept.append(path)
        if path.name.lower().endswith((".tif", ".tiff")):
            with contextlib.suppress(InputError):  # the later read raises it
                others |= {path.parent / name for name in tiff_set(path)} - {path}
    return kept


def without_results(paths: list[Path]) -> list[Path]:
    """Leave out label images whose image is there too, as after a run in place."""
    stems = {stem_of(path) for path in paths}

    def made(path: Path) -> bool:
        stem = stem_of(path)
        image = label_stem(path)
        return stem != image and (image in stems or re.sub(r"_t\d+$", "", image) in stems)

    return [path for path in paths if not made(path)]


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_SUFFIXES) if path.is_file() else is_zarr(path)


def frames_of(paths: Iterable[Path], frame: int | None = None) -> list[Path | Frame]:
    """Replace each file of several time points by its frames, or by the chosen one.

    An unreadable file, or one without the frame, is kept unchanged, so that the later read raises the error.

    Raises
    ------
    InputError
        If a time point and another file have the same stem, so that their results would collide.
    """
    found: list[Path | Frame] = []
    for path in paths:
        try:
            count = count_frames(path)
        except InputError:
            count = 1
        wanted = range(count) if frame is None else [frame] if 0 <= frame < count else []
        found += [Frame(path, index) for index in wanted] if count > 1 and wanted else [path]
    seen: dict[str, Path | Frame] = {}
    for image in found:
        other = seen.setdefault(image_stem(image), image)
        if other is not image:
            raise InputError(
                f"{other} and {image} would both write {image_stem(image)}_labels.tif: rename one or segment "
                "them separately"
            )
    return found


def interval_of(images: Iterable[Path | Frame]) -> float | None:
    """Return the minutes between frames that the first time-lapse states, or None."""
    movie = next((image.path for image in images if isinstance(image, Frame)), None)
    return None if movie is None else read_interval_min(movie)


def image_items(paths: Iterable[str | PathLike[str]]) -> list[dict[str, str]]:
    """Return the images of files and folders as items of a MONAI dataset."""
    return [{"image": str(path)} for path in list_images(paths)]
