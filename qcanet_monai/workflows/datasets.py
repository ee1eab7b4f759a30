"""Labelled embryos as a dataset in BBBC050's layout: BBBC050, the Cell Tracking Challenge's, one's own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.errors import InputError, OutputError
from qcanet_monai.io import Volume, check_spacing, output_folder, read_labels, read_volume, write_json
from qcanet_monai.io.dataset import TARGETS, embryo_of, image_path, truth_path
from qcanet_monai.io.names import Frame, frames_of, group_series, image_stem, list_images, natural_key
from qcanet_monai.io.quiet import one_line
from qcanet_monai.io.save import write_labels, write_volume
from qcanet_monai.simulate.series import centre_balls
from qcanet_monai.workflows.download import Progress, download, silent, unpack

BBBC050_URL = "https://data.broadinstitute.org/bbbc/BBBC050"
BBBC050_SHA256 = {
    "Images.zip": "29f100abbfebfb1986b8e87eac091e86d8ec27cd8194f9a1c02c805e76b6dcd8",
    "GroundTruth.zip": "1f19b308730dccf217c4d4dcf5745ad0fcde4eeb9f9c9306b2c8abd1fe73e5d1",
}
_BBBC050_SPACING = {"train": (1.75, 0.8, 0.8), "test": (2.0, 0.8, 0.8)}  # µm; the files do not state it
_BBBC050_FILE = re.compile(
    r"(Images/(train|test)/Images|GroundTruth/(train|test)/GroundTruth_(NSN|NDN|QCANet))/[^/.][^/]*\.tif"
)

_KEYS = {target: f"label_{target.lower()}" for target in TARGETS}  # of a datalist's entry
_ABOUT = "dataset.json"  # what the dataset was made from; written last
_DOWNLOADS, _UNFINISHED = ".download", ".qcanet-unfinished"


class Dataset(NamedTuple):
    """Numbers of images to train on, of embryos they show, of images to test on; whether it is new."""

    train: int
    embryos: int
    test: int
    new: bool


class _Item(NamedTuple):
    """An image of the dataset to be: where it and the truths that exist are now.

    Labels whose numbers mean something elsewhere, tracks for instance, are renumbered.
    """

    part: str
    name: str
    image: Path | Frame
    truths: Mapping[str, Path | Frame]
    spacing: Sequence[float] | None
    renumber: bool = True


def bbbc050(
    folder: Path,
    *,
    base_url: str = BBBC050_URL,
    checksums: Mapping[str, str] = BBBC050_SHA256,
    progress: Progress = silent,
) -> Dataset:
    """Download BBBC050 (Tokuoka et al. 2020) and write it so that its files state their voxel size.

    NSN and NDN truth of the test part, which BBBC050 lacks, is derived from its instances.

    Parameters
    ----------
    folder
        Where the dataset goes: new, empty, or with what an interrupted call left.
    base_url
        Where ``Images.zip`` and ``GroundTruth.zip`` are.
    checksums
        Their SHA-256 in hexadecimal digits, by name.
    progress
        Told what is done, how much of it, and out of how much.

    Returns
    -------
    Dataset
        What `folder` holds now.

    Raises
    ------
    InputError
        If an archive does not come, is not what it should be, or a file in it cannot be used; or if `folder`
        holds something else.
    OutputError
        If something cannot be written.
    """
    about = {
        "dataset": "BBBC050",
        "source": "https://bbbc.broadinstitute.org/BBBC050",
        "licence": "CC BY 3.0",
        "citation": "Tokuoka et al. 2020, https://doi.org/10.1038/s41540-020-00152-8",
        "sha256": dict(checksums),
    }

    def find(unpacked: Path) -> list[_Item]:
        downloads = output_folder(folder / _DOWNLOADS)
        for name, sha256 in checksums.items():
            url = f"{base_url.rstrip('/')}/{name}"
            download(url, downloads / name, sha256=sha256, progress=progress)
        for name in checksums:
            unpack(downloads / name, unpacked, wanted=lambda path: bool(_BBBC050_FILE.fullmatch(path)))
        return _bbbc050_items(unpacked)

    made = _make(folder, about, find, progress, leftovers=(_UNFINISHED, _DOWNLOADS))
    shutil.rmtree(folder / _DOWNLOADS, ignore_errors=True)
    return made


def _bbbc050_items(unpacked: Path) -> list[_Item]:
    items = []
    for part, spacing in _BBBC050_SPACING.items():
        images = image_path(unpacked, part, "x").parent.glob("*.tif")
        for image in sorted(images, key=lambda path: natural_key(path.name)):
            paths = {target: truth_path(unpacked, part, target, image.name) for target in TARGETS}
            truths = {target: path for target, path in paths.items() if path.is_file()}
            items.append(_Item(part, image.name, image, truths, spacing, renumber=False))
    return items


def ctc(
    folder: Path, source: Path, *, spacing: Sequence[float] | None = None, progress: Progress = silent
) -> Dataset:
    """Write a 3-D dataset of the Cell Tracking Challenge as one to train on; each sequence is an embryo.

    Parameters
    ----------
    folder, progress
        As for :func:`bbbc050`.
    source
        The dataset's folder, with ``01/tTTT.tif`` and ``01_GT/SEG/man_segTTT.tif``. Frames with such truth
        are taken; of frames with single slices of truth (``man_seg_TTT_ZZZ.tif``) a network cannot learn.
    spacing
        Voxel size (z, y, x) in µm for files that do not state it.

    Raises
    ------
    InputError
        If there is no such frame, a file cannot be used or is 2-D, or `folder` holds something else.
    """
    items = _ctc_items(source, spacing)
    return _make(folder, _about("ctc", source, spacing, items), lambda _: items, progress)


def _ctc_items(source: Path, spacing: Sequence[float] | None) -> list[_Item]:
    items = []
    for truth in sorted(source.glob("*_GT/SEG/man_seg*.tif"), key=lambda path: natural_key(str(path))):
        sequence, frame = truth.parents[1].name.removesuffix("_GT"), truth.stem.removeprefix("man_seg")
        if sequence.isdecimal() and frame.isdecimal():
            image = source / sequence / f"t{frame}.tif"
            name = f"Emb{sequence}_t{frame}.tif"
            items.append(_Item("train", name, image, {"QCANet": truth}, spacing))
    if not items:
        raise InputError(
            f"expected 01_GT/SEG/man_seg000.tif and the like in {source}, found none: give the dataset's own "
            "folder; where the gold truth has single slices only, put the silver truth, 01_ST, in its place"
        )
    return items


def own(
    folder: Path, source: Path, *, spacing: Sequence[float] | None = None, progress: Progress = silent
) -> Dataset:
    """Write one's own images and instance labels as a dataset to train on.

    Parameters
    ----------
    folder, progress
        As for :func:`bbbc050`.
    source
        With folders ``images`` and ``labels``, whose files (TIFF, NIfTI, OME-Zarr) have the same stems; they
        begin with the embryo's name: ``Emb01_t003``.
    spacing
        Voxel size (z, y, x) in µm for images that do not state it.

    Raises
    ------
    InputError
        If an image has no labels, a file cannot be used, or `folder` holds something else.
    """
    items = _own_items(source, spacing)
    return _make(folder, _about("own", source, spacing, items), lambda _: items, progress)


def _own_items(source: Path, spacing: Sequence[float] | None) -> list[_Item]:
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
        _Item("train", f"{stem}.tif", image, {"QCANet": labels[stem]}, spacing)
        for stem, image in images.items()
    ]


def _about(kind: str, source: Path, spacing: Sequence[float] | None, items: list[_Item]) -> dict[str, Any]:
    """What a dataset is made from; another where a file has changed since."""
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


def _make(
    folder: Path,
    about: dict[str, Any],
    find: Callable[[Path], list[_Item]],
    progress: Progress,
    leftovers: Sequence[str] = (_UNFINISHED,),
) -> Dataset:
    """Write what `find` finds into a hidden folder within `folder`, and its parts to their places when whole.

    `find` is lent a path below the hidden folder, for files that it needs until then.
    """
    existed = folder.exists()
    output_folder(folder)
    unfinished = folder / _UNFINISHED
    if _read_json(unfinished / _ABOUT) == about:  # killed while its parts were put to their places
        _publish(unfinished, folder)
    if (folder / _ABOUT).exists():
        made = _present(folder, about)
        shutil.rmtree(unfinished, ignore_errors=True)
        return made
    others = sorted(path.name for path in folder.iterdir() if path.name not in leftovers)
    if others:
        raise InputError(
            f"expected a new or empty folder for the dataset, {folder} holds {others[0]}: choose another"
        )
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        output_folder(unfinished)
        _write(find(unfinished / "unpacked"), unfinished, progress)
        write_json(unfinished / _ABOUT, about)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: what was downloaded is kept
            (folder / _DOWNLOADS).rmdir()
        with contextlib.suppress(OSError):
            if not existed:
                folder.rmdir()
        raise
    _publish(unfinished, folder)
    return _present(folder, about)._replace(new=True)


def _publish(unfinished: Path, folder: Path) -> None:
    """Rename the parts of a whole dataset; its description last, so that a rerun can go on."""
    try:
        for name in ("Images", "GroundTruth", "datalists", _ABOUT):
            if (unfinished / name).exists():
                (unfinished / name).replace(folder / name)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {one_line(error)}") from error
    shutil.rmtree(unfinished, ignore_errors=True)


def _present(folder: Path, about: dict[str, Any]) -> Dataset:
    """The dataset that a folder holds, if it is this one and whole."""
    if _read_json(folder / _ABOUT) != about:
        raise InputError(
            f"expected a new or empty folder for the dataset, {folder} holds one made from other files or "
            "settings: choose another"
        )
    train, test = (_read_json(folder / "datalists" / f"{part}.json") or [] for part in ("train", "test"))
    files = [item[key] for item in train + test for key in ("image", *_KEYS.values())]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing or not train:
        raise InputError(
            f"expected the whole dataset in {folder}, {missing[0] if missing else 'datalists/train.json'} is "
            "missing: remove the folder and run again"
        )
    return Dataset(len(train), len({item["embryo"] for item in train}), len(test), new=False)


def _read_json(path: Path) -> Any:
    """What a file holds, None where it is missing or none of ours."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(items: Sequence[_Item], folder: Path, progress: Progress) -> None:
    if not any(item.part == "train" for item in items):
        raise InputError("expected images to train on in BBBC050's layout, found none")
    for part in dict.fromkeys(item.part for item in items):
        names = [item.name for item in items if item.part == part]
        write_json(output_folder(folder / "datalists") / f"{part}.json", _datalist(part, names))
    for done, item in enumerate(items, 1):
        _write_item(item, folder)
        progress("writing", done, len(items))


def _datalist(part: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """An entry per image, with paths from the dataset's folder on."""
    series = group_series(Path(name).stem for name in names)
    frames = {stem: frame for one in series for stem, frame in zip(one.stems, one.frames, strict=True)}
    return [
        {"image": image_path(Path(), part, name).as_posix()}
        | {key: truth_path(Path(), part, target, name).as_posix() for target, key in _KEYS.items()}
        | {"embryo": embryo_of(name), "frame": frames[Path(name).stem]}
        for name in names
    ]


def _write_item(item: _Item, folder: Path) -> None:
    image = _read(read_volume, item.image, item.spacing)
    truths: dict[str, NDArray[Any]] = {}
    for target, path in item.truths.items():
        truths[target] = _read(read_labels, path, image.spacing).array
        if truths[target].shape != image.array.shape:
            raise InputError(
                f"expected {path} to have the shape of its image, {image.array.shape}, got "
                f"{truths[target].shape}"
            )
    if "QCANet" not in truths:
        raise InputError(f"expected instance labels of {item.image}, found none")
    truths = _complete(truths, renumber=item.renumber)
    path = image_path(folder, item.part, item.name)
    output_folder(path.parent)
    write_volume(path, _grey_values(image.array), spacing=image.spacing)
    for target, array in truths.items():
        path = truth_path(folder, item.part, target, item.name)
        output_folder(path.parent)
        write_labels(path, array, spacing=image.spacing)


def _read(reader: Callable[..., Volume], place: Path | Frame, spacing: Sequence[float] | None) -> Volume:
    path, frame = (place.path, place.number) if isinstance(place, Frame) else (place, None)
    return reader(path, spacing=spacing, frame=frame)


def _grey_values(array: NDArray[Any]) -> NDArray[Any]:
    """The image in a dtype that an ImageJ TIFF holds."""
    if array.dtype.kind == "f" or array.dtype.name in ("uint8", "uint16"):
        return array
    return array.astype(np.uint16 if array.min() >= 0 and array.max() < 2**16 else np.float32)


def _complete(truths: Mapping[str, NDArray[Any]], *, renumber: bool) -> dict[str, NDArray[Any]]:
    """The truths with those that instances (Z, Y, X) imply: 0/255 in nuclei, in balls at their centres."""
    labels = truths["QCANet"]
    numbers = np.unique(labels[labels > 0])
    if renumber:
        labels = np.where(labels > 0, np.searchsorted(numbers, labels) + 1, 0)
        numbers = np.arange(1, len(numbers) + 1)
    centres = np.reshape(ndi.center_of_mass(labels > 0, labels, numbers), (-1, 3))
    derived = {
        "NSN": np.where(labels > 0, np.uint8(255), np.uint8(0)),
        "NDN": centre_balls(centres, labels.shape),
    }
    return derived | dict(truths) | {"QCANet": labels}
