"""Labelled images converted to BBBC050's layout: BBBC050, CTC, your own."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcanet_monai.datasets.download import Progress, download, silent, unpack
from qcanet_monai.datasets.writer import DOWNLOADS, UNFINISHED, Dataset, Item, make_dataset
from qcanet_monai.errors import InputError
from qcanet_monai.io import check_spacing, output_folder
from qcanet_monai.io.dataset import TARGETS, image_path, truth_path
from qcanet_monai.io.names import Frame, frames_of, image_stem, list_images, natural_key

BBBC050_URL = "https://data.broadinstitute.org/bbbc/BBBC050"
BBBC050_SHA256 = {
    "Images.zip": "29f100abbfebfb1986b8e87eac091e86d8ec27cd8194f9a1c02c805e76b6dcd8",
    "GroundTruth.zip": "1f19b308730dccf217c4d4dcf5745ad0fcde4eeb9f9c9306b2c8abd1fe73e5d1",
}
_BBBC050_SPACING = {"train": (1.75, 0.8, 0.8), "test": (2.0, 0.8, 0.8)}  # µm; the files do not state it
_BBBC050_FILE = re.compile(
    r"(Images/(train|test)/Images|GroundTruth/(train|test)/GroundTruth_(NSN|NDN|QCANet))/[^/.][^/]*\.tif"
)


def bbbc050(
    folder: Path,
    *,
    base_url: str = BBBC050_URL,
    checksums: Mapping[str, str] = BBBC050_SHA256,
    progress: Progress = silent,
) -> Dataset:
    """Download BBBC050 (Tokuoka et al. 2020) and write its voxel size into the files.

    BBBC050 lacks NSN and NDN ground truth of the test part; both are derived from the instances.

    Parameters
    ----------
    folder
        Destination: new, empty, or left by an interrupted call.
    base_url
        Address of the folder of ``Images.zip`` and ``GroundTruth.zip``.
    checksums
        SHA-256 in hexadecimal digits of each archive, by file name.
    progress
        Called with the name of the step, the amount done, and the total (0 if unknown).

    Raises
    ------
    InputError
        If a download fails, a checksum differs, a file cannot be read, or `folder` holds other files.
    OutputError
        If a file cannot be written.
    """
    about = {
        "dataset": "BBBC050",
        "source": "https://bbbc.broadinstitute.org/BBBC050",
        "licence": "CC BY 3.0",
        "citation": "Tokuoka et al. 2020, https://doi.org/10.1038/s41540-020-00152-8",
        "sha256": dict(checksums),
    }

    def find(unpacked: Path) -> list[Item]:
        downloads = output_folder(folder / DOWNLOADS)
        for name, sha256 in checksums.items():
            url = f"{base_url.rstrip('/')}/{name}"
            download(url, downloads / name, sha256=sha256, progress=progress)
        for name in checksums:
            unpack(downloads / name, unpacked, wanted=lambda path: bool(_BBBC050_FILE.fullmatch(path)))
        return _bbbc050_items(unpacked)

    made = make_dataset(folder, about, find, progress, leftovers=(UNFINISHED, DOWNLOADS))
    shutil.rmtree(folder / DOWNLOADS, ignore_errors=True)
    return made


def _bbbc050_items(unpacked: Path) -> list[Item]:
    items = []
    for part, spacing in _BBBC050_SPACING.items():
        images = image_path(unpacked, part, "x").parent.glob("*.tif")
        for image in sorted(images, key=lambda path: natural_key(path.name)):
            paths = {target: truth_path(unpacked, part, target, image.name) for target in TARGETS}
            truths = {target: path for target, path in paths.items() if path.is_file()}
            items.append(Item(part, image.name, image, truths, spacing, renumber=False))
    return items


def ctc(
    folder: Path, source: Path, *, spacing: Sequence[float] | None = None, progress: Progress = silent
) -> Dataset:
    """Convert a 3-D Cell Tracking Challenge dataset; each sequence becomes an embryo.

    Parameters
    ----------
    folder, progress
        As for :func:`bbbc050`.
    source
        Folder with ``01/tTTT.tif`` and ``01_GT/SEG/man_segTTT.tif``. Only frames with volumetric ground truth
        are used, not those with single slices (``man_seg_TTT_ZZZ.tif``).
    spacing
        Voxel size (z, y, x) in µm for files that do not state it.

    Raises
    ------
    InputError
        If no frame is found, a file cannot be read or is 2-D, or `folder` holds other files.
    """
    items = _ctc_items(source, spacing)
    return make_dataset(folder, _about("ctc", source, spacing, items), lambda _: items, progress)


def _ctc_items(source: Path, spacing: Sequence[float] | None) -> list[Item]:
    items = []
    for truth in sorted(source.glob("*_GT/SEG/man_seg*.tif"), key=lambda path: natural_key(str(path))):
        sequence, frame = truth.parents[1].name.removesuffix("_GT"), truth.stem.removeprefix("man_seg")
        if sequence.isdecimal() and frame.isdecimal():
            image = source / sequence / f"t{frame}.tif"
            name = f"Emb{sequence}_t{frame}.tif"
            items.append(Item("train", name, image, {"QCANet": truth}, spacing))
    if not items:
        raise InputError(
            f"expected 01_GT/SEG/man_seg000.tif and the like in {source}, found none: give the dataset's "
            "folder; if the gold truth 01_GT has single slices only, replace it by the silver truth 01_ST"
        )
    return items


def own(
    folder: Path, source: Path, *, spacing: Sequence[float] | None = None, progress: Progress = silent
) -> Dataset:
    """Convert your own images and instance labels to a training dataset.

    Parameters
    ----------
    folder, spacing, progress
        As for :func:`ctc`.
    source
        Folder with ``images`` and ``labels`` (TIFF, NIfTI, OME-Zarr). An image and its labels have the same
        stem, which begins with the embryo's name, such as ``Emb01_t003``.

    Raises
    ------
    InputError
        If an image has no labels, a file cannot be read, or `folder` holds other files.
    """
    items = _own_items(source, spacing)
    return make_dataset(folder, _about("own", source, spacing, items), lambda _: items, progress)


def _own_items(source: Path, spacing: Sequence[float] | None) -> list[Item]:
    images, labels = (
        {image_stem(image): image for image in frames_of(list_images([source / name]))}
        for name in ("images", "labels")
    )
    missing = [str(images[stem]) for stem in images if stem not in labels]
    if missing:
        raise InputError(
            f"expected labels of the same name in {source / 'labels'} for every image, "
            f"{len(missing)} of {len(images)} are missing, the first is that of {missing[0]}"
        )
    return [
        Item("train", f"{stem}.tif", image, {"QCANet": labels[stem]}, spacing)
        for stem, image in images.items()
    ]


def _about(kind: str, source: Path, spacing: Sequence[float] | None, items: list[Item]) -> dict[str, Any]:
    """Describe a dataset's source, with a fingerprint that changes with its files."""
    states: list[tuple[str, int, int]] = []
    for place in [place for item in items for place in (item.image, *item.truths.values())]:
        path = place.path if isinstance(place, Frame) else place
        files = [file for file in (path, *sorted(path.rglob("*"))) if file.is_file()]
        states += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return {
        "dataset": kind,
        "source": str(source.resolve()),
        "spacing_um": None if spacing is None else list(check_spacing(spacing, source)),
        "fingerprint": hashlib.sha256(json.dumps(states).encode()).hexdigest(),
    }
