"""Writing of datasets in BBBC050's layout, completely or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.datasets.download import Progress
from qcanet_monai.errors import InputError, OutputError
from qcanet_monai.io import Volume, output_folder, read_labels, read_volume, write_json
from qcanet_monai.io.dataset import TARGETS, embryo_of, image_path, truth_path
from qcanet_monai.io.names import Frame, group_series
from qcanet_monai.io.save import write_labels, write_volume
from qcanet_monai.io.suppress_logs import one_line
from qcanet_monai.simulator.series import centre_balls

_KEYS = {target: f"label_{target.lower()}" for target in TARGETS}  # keys of a datalist entry
_ABOUT = "dataset.json"  # source of the dataset; written last
DOWNLOADS, UNFINISHED = ".download", ".qcanet-unfinished"


class Dataset(NamedTuple):
    """Numbers of training images, their embryos and test images; `new`: just written."""

    train: int
    embryos: int
    test: int
    new: bool


class Item(NamedTuple):
    """Image and ground truths to convert; `renumber` relabels instances to 1..n."""

    part: str
    name: str
    image: Path | Frame
    truths: Mapping[str, Path | Frame]
    spacing: Sequence[float] | None
    renumber: bool = True


def make_dataset(
    folder: Path,
    about: dict[str, Any],
    find: Callable[[Path], list[Item]],
    progress: Progress,
    leftovers: Sequence[str] = (UNFINISHED,),
) -> Dataset:
    """Write a dataset to a hidden subfolder, then move its parts into place.

    Parameters
    ----------
    folder
        Destination: new, empty, or left by an interrupted call.
    about
        Description of the source. A folder with a dataset of the same description is left unchanged.
    find
        Returns the images; called with a path in the hidden subfolder for temporary files.
    progress
        Called with the name of the step, the number of images written, and their total.
    leftovers
        Names in `folder` that an interrupted call may have left.

    Raises
    ------
    InputError
        If an image or its labels cannot be read, or `folder` holds other files.
    OutputError
        If a file cannot be written.
    """
    existed = folder.exists()
    output_folder(folder)
    unfinished = folder / UNFINISHED
    if _read_json(unfinished / _ABOUT) == about:  # interrupted while parts were moved into place
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
        with contextlib.suppress(OSError):  # not empty: keep the downloads
            (folder / DOWNLOADS).rmdir()
        with contextlib.suppress(OSError):
            if not existed:
                folder.rmdir()
        raise
    _publish(unfinished, folder)
    return _present(folder, about)._replace(new=True)


def _publish(unfinished: Path, folder: Path) -> None:
    """Move the parts of a complete dataset into place; its description comes last."""
    try:
        for name in ("Images", "GroundTruth", "datalists", _ABOUT):
            if (unfinished / name).exists():
                (unfinished / name).replace(folder / name)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {one_line(error)}") from error
    shutil.rmtree(unfinished, ignore_errors=True)


def _present(folder: Path, about: dict[str, Any]) -> Dataset:
    """Return the dataset in a folder after a check of its source and completeness."""
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
    """Return the content of a JSON file, None if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(items: Sequence[Item], folder: Path, progress: Progress) -> None:
    if not any(item.part == "train" for item in items):
        raise InputError("expected images to train on in BBBC050's layout, found none")
    for part in dict.fromkeys(item.part for item in items):
        names = [item.name for item in items if item.part == part]
        write_json(output_folder(folder / "datalists") / f"{part}.json", _datalist(part, names))
    for done, item in enumerate(items, 1):
        _write_item(item, folder)
        progress("writing", done, len(items))


def _datalist(part: str, names: Sequence[str]) -> list[dict[str, Any]]:
    series = group_series(Path(name).stem for name in names)
    frames = {stem: frame for one in series for stem, frame in zip(one.stems, one.frames, strict=True)}
    return [
        {"image": image_path(Path(), part, name).as_posix()}
        | {key: truth_path(Path(), part, target, name).as_posix() for target, key in _KEYS.items()}
        | {"embryo": embryo_of(name), "frame": frames[Path(name).stem]}
        for name in names
    ]


def _write_item(item: Item, folder: Path) -> None:
    source, frame = _place(item.image)
    image = read_volume(source, spacing=item.spacing, frame=frame)
    truths: dict[str, NDArray[Any]] = {
        target: _labels(place, image, item.spacing, instances=target == "QCANet").array
        for target, place in item.truths.items()
    }
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


def _place(place: Path | Frame) -> tuple[Path, int | None]:
    return (place.path, place.number) if isinstance(place, Frame) else (place, None)


def _labels(
    place: Path | Frame, image: Volume, spacing: Sequence[float] | None, *, instances: bool
) -> Volume:
    """Read labels; refuse another shape or voxel size than those of their image."""
    path, frame = _place(place)
    labels = read_labels(path, spacing=spacing, need_spacing=False, frame=frame, instances=instances)
    if labels.array.shape != image.array.shape:
        raise InputError(
            f"expected {place} to have the shape of its image, {image.array.shape}, got {labels.array.shape}"
        )
    if not np.isnan(labels.spacing).any() and not np.allclose(labels.spacing, image.spacing, rtol=0.01):
        one, other = (" × ".join(f"{size:.4g}" for size in v.spacing) for v in (image, labels))
        raise InputError(
            f"expected {path} to have the voxel size of its image, {one} µm, got {other} µm: correct it, or "
            "give --spacing Z Y X"
        )
    return labels


def _grey_values(array: NDArray[Any]) -> NDArray[Any]:
    """Convert an image to a dtype that ImageJ TIFF supports."""
    if array.dtype.kind == "f" or array.dtype.name in ("uint8", "uint16"):
        return array
    return array.astype(np.uint16 if array.min() >= 0 and array.max() < 2**16 else np.float32)


def _complete(truths: Mapping[str, NDArray[Any]], *, renumber: bool) -> dict[str, NDArray[Any]]:
    """Derive missing NSN and NDN truth (0/255) from the instances (Z, Y, X)."""
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
