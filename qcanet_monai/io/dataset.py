"""Pairs of images and ground truth in the layout of BBBC050, and their splits."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from qcanet_monai.errors import InputError
from qcanet_monai.io.atomic import output_folder
from qcanet_monai.io.names import natural_key
from qcanet_monai.io.tables import write_json

TARGETS = ("NSN", "NDN", "QCANet")
SUBSETS = ("train", "validation")
SPLITS = ("embryo", "time")


def image_path(root: Path, part: str, name: str) -> Path:
    """Return the path of an image of `part` ("train" or "test")."""
    return root / "Images" / part / "Images" / name


def truth_path(root: Path, part: str, target: str, name: str) -> Path:
    """Return the path of an image's ground truth for "NSN", "NDN" or "QCANet"."""
    return root / "GroundTruth" / part / f"GroundTruth_{target}" / name


def tracks_folder(root: Path, part: str, embryo: str) -> Path:
    """Return an embryo's folder of true tracks (Cell Tracking Challenge layout)."""
    return root / "Tracks" / part / f"{embryo}_GT" / "TRA"


def embryo_of(name: str) -> str:
    """Return the embryo from a file name: `Emb01` of `Emb01_t003.tif`."""
    return re.split(r"[_\-. ]", name, maxsplit=1)[0]


STAND_INS = {"NDN": "centres", "NSN": "mask"}
"""Targets that can replace missing instances in training, and the annotation they provide."""


def pairs(root: str | Path, part: str, target: str, *, partial: bool = False) -> list[dict[str, str]]:
    """Return the images of `part` and their ground truth, in natural order.

    Each item holds the paths ``image`` and ``label``. With `partial`, a target of `STAND_INS` replaces a
    missing ground truth, and ``annotation`` is "instances", "centres" or "mask".

    Raises
    ------
    InputError
        If the folder has another layout, or an image has no ground truth.
    """
    root = Path(root)
    folder = image_path(root, part, "x").parent
    images = [p for p in folder.glob("*.tif") if not p.name.startswith(".")] if folder.is_dir() else []
    images.sort(key=lambda p: natural_key(p.name))
    if not images:
        raise InputError(
            f"expected images in {folder}, found none: give the folder that holds Images/ and GroundTruth/, "
            "or make one with `qcanet simulate DIR`"
        )
    found = [{"image": str(p), **_truth(root, part, target, p.name, partial)} for p in images]
    missing = [item["label"] for item in found if not Path(item["label"]).is_file()]
    if missing:
        raise InputError(
            f"expected a ground-truth file for every image, {len(missing)} of {len(found)} are missing "
            f"(first: {missing[0]}): add them"
        )
    return found


def _truth(root: Path, part: str, target: str, name: str, partial: bool) -> dict[str, str]:
    wanted = truth_path(root, part, target, name)
    if partial and not wanted.is_file():
        for other, annotation in STAND_INS.items():
            path = truth_path(root, part, other, name)
            if path.is_file():
                return {"label": str(path), "annotation": annotation}
    return {"label": str(wanted)} | ({"annotation": "instances"} if partial else {})


def split(
    root: str | Path,
    target: str,
    subset: str,
    *,
    partial: bool = False,
    folds: int = 11,
    fold: int = 0,
    by: str = "embryo",
    datalist: str | Path | None = None,
    at_most: int | None = None,
) -> list[dict[str, str]]:
    """Return the training or validation pairs of a fold or of a datalist.

    By embryo, fold ``i % folds`` holds out embryo i (in natural order), as in the paper's 11-fold
    cross-validation over 11 embryos; no embryo is in both subsets. By time, fold ``i % folds`` holds out
    time point i of every embryo, as in the paper's supplementary figure 2. This test is weaker, because
    neighbouring time points are alike.

    Parameters
    ----------
    root
        Dataset folder in BBBC050's layout.
    target
        "NSN", "NDN" or "QCANet".
    subset
        "train" or "validation".
    partial
        Train on images without instances too, see `pairs`; validation needs instances.
    folds, fold
        Number of folds, at least 2, and index of the held-out fold.
    by
        "embryo" or "time".
    datalist
        JSON file that replaces the folds: lists ``training`` and ``validation`` of ``image`` and ``label``
        (or ``label_nsn`` and so on), paths relative to the file's folder. See `write_datalists`.
    at_most
        Number of pairs to keep, at least 1, evenly spaced; all if None.

    Raises
    ------
    InputError
        If the subset or fold does not exist, a subset is empty, or the datalist is invalid.
    """
    if subset not in SUBSETS:
        raise InputError(f"expected a subset of {', '.join(SUBSETS)}, got {subset!r}")
    if at_most is not None and at_most < 1:
        raise InputError(f"expected at_most to be at least 1, got {at_most}: leave it out to keep all pairs")
    chosen = (
        _fold(pairs(root, "train", target, partial=partial), subset, folds, fold, by)
        if datalist is None
        else _listed(Path(datalist), target, subset, partial)
    )
    if partial and subset == "validation":
        chosen = [item for item in chosen if item["annotation"] == "instances"]
        if not chosen:
            raise InputError(
                "expected validation images with instances, "
                f"{datalist or f'fold {fold}'} has none: choose another"
            )
    return chosen if at_most is None else evenly(chosen, at_most)


def evenly(items: list[dict[str, str]], at_most: int) -> list[dict[str, str]]:
    """Return at most this many items, evenly spaced."""
    if at_most >= len(items):
        return items
    return [items[(2 * i + 1) * len(items) // (2 * at_most)] for i in range(at_most)]


def write_datalists(root: str | Path, out: str | Path, *, folds: int = 11, by: str = "embryo") -> list[Path]:
    """Write a datalist per fold, which `split` and MONAI's own loaders read.

    Parameters
    ----------
    root, folds, by
        See `split`.
    out
        Folder for ``fold00.json``, ``fold01.json`` and so on.

    Raises
    ------
    InputError
        As `split`.
    OutputError
        If the folder is not writable.
    """
    folder = output_folder(out).resolve()
    found = [pairs(Path(root).resolve(), "train", target) for target in TARGETS]
    written = []
    for fold in range(folds):
        parts: dict[str, list[dict[str, str]]] = {}
        for subset in SUBSETS:
            sides = [_fold(one, subset, folds, fold, by) for one in found]
            parts["training" if subset == "train" else subset] = [
                {
                    "image": _from(folder, items[0]["image"]),
                    **{
                        f"label_{target.lower()}": _from(folder, item["label"])
                        for target, item in zip(TARGETS, items, strict=True)
                    },
                }
                for items in zip(*sides, strict=True)
            ]
        written.append(folder / f"fold{fold:02d}.json")
        write_json(written[-1], parts)
    return written


def _fold(found: list[dict[str, str]], subset: str, folds: int, fold: int, by: str) -> list[dict[str, str]]:
    if folds < 2 or not 0 <= fold < folds:
        raise InputError(
            f"expected folds of at least 2 and fold in 0..folds-1, got folds={folds}, fold={fold}"
        )
    if by not in SPLITS:
        raise InputError(f"expected a split by {' or '.join(SPLITS)}, got {by!r}")
    series: dict[str, list[dict[str, str]]] = {}
    for item in found:
        series.setdefault(embryo_of(Path(item["image"]).name), []).append(item)
    wanted = subset == "validation"
    chosen = [
        item
        for embryo, items in enumerate(series.values())
        for time, item in enumerate(items)
        if ((embryo if by == "embryo" else time) % folds == fold) == wanted
    ]
    if not 0 < len(chosen) < len(found):
        many = f"{len(series)} embryos" if by == "embryo" else f"{max(map(len, series.values()))} time points"
        raise InputError(
            f"expected training and validation {by}s, got {many} for fold {fold} of {folds}: use another "
            "fold or a larger dataset"
        )
    return chosen


def _listed(path: Path, target: str, subset: str, partial: bool) -> list[dict[str, str]]:
    side = "training" if subset == "train" else subset
    try:
        items = json.loads(path.read_text(encoding="utf-8"))[side]
        folder = path.resolve().parent
        chosen = [
            {"image": str((folder / one["image"]).resolve()), "label": str((folder / named).resolve())}
            | ({"annotation": annotation} if partial else {})
            for one in items
            for named, annotation in [_named(one, target, partial)]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected a datalist, got {type(error).__name__} ({error}): give JSON with the lists "
            "training and validation of image and label"
        ) from error
    paths = [item[key] for item in chosen for key in ("image", "label")]
    missing = [one for one in paths if not Path(one).is_file()]
    if missing or not chosen:
        raise InputError(
            f"expected files in {side} of {path}, " + (f"{missing[0]} is missing" if missing else "got none")
        )
    return chosen


def _named(entry: dict[str, Any], target: str, partial: bool) -> tuple[Any, str]:
    """Return an entry's label path, and its annotation."""
    label = f"label_{target.lower()}"
    if partial and label not in entry and "label" not in entry:
        for other, annotation in STAND_INS.items():
            if f"label_{other.lower()}" in entry:
                return entry[f"label_{other.lower()}"], annotation
    return entry.get(label, entry.get("label")), "instances"


def _from(folder: Path, path: str) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
