"""Training data in the layout of BBBC050: which files belong together, and how they are split."""

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
    """Where the image `name` of `part` ("train" or "test") lies."""
    return root / "Images" / part / "Images" / name


def truth_path(root: Path, part: str, target: str, name: str) -> Path:
    """Where the truth of an image for `target` ("NSN", "NDN" or "QCANet") lies."""
    return root / "GroundTruth" / part / f"GroundTruth_{target}" / name


def tracks_folder(root: Path, part: str, embryo: str) -> Path:
    """Where the true tracks of an embryo lie, in the Cell Tracking Challenge's layout."""
    return root / "Tracks" / part / f"{embryo}_GT" / "TRA"


def embryo_of(name: str) -> str:
    """The embryo that a file's name begins with: `Emb01` of `Emb01_t003.tif`."""
    return re.split(r"[_\-. ]", name, maxsplit=1)[0]


STAND_INS = {"NDN": "centres", "NSN": "mask"}
"""Truths that stand in for missing instances where a training takes them, and what they annotate."""


def pairs(root: str | Path, part: str, target: str, *, partial: bool = False) -> list[dict[str, str]]:
    """Every image of `part` with its truth for `target`, in natural order.

    With `partial` one of `STAND_INS` may stand in for it; the item's ``annotation`` says so.

    Raises
    ------
    InputError
        If the folder is not laid out as expected, or an image has no truth.
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
            f"expected a truth file for every image, {len(missing)} of {len(found)} are missing, "
            f"the first is {missing[0]}"
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
    """Training or validation pairs of one fold of a cross-validation, or of a datalist.

    By embryo, embryo i (in natural order) is held out in fold ``i % folds``, as in the paper's 11-fold
    cross-validation over 11 embryos, and no embryo is on both sides. By time, the i-th time point of every
    embryo is, as in its supplementary figure 2: neighbouring time points are alike, so this says less.

    Parameters
    ----------
    root
        Dataset folder in BBBC050's layout.
    target
        "NSN", "NDN" or "QCANet".
    subset
        "train" or "validation".
    partial
        Whether images without instances are trained on, see `pairs`; none of them validates.
    folds, fold
        Number of folds, at least 2, and which of them to hold out.
    by
        "embryo" or "time".
    datalist
        A JSON file in place of folds: ``training`` and ``validation``, lists of ``image`` and ``label``, or
        ``label_nsn`` and so on, paths from the file's folder. See `write_datalists`.
    at_most
        Keep only this many pairs, at least 1, evenly spread; all if None.

    Raises
    ------
    InputError
        If there is no such subset or fold, a subset would be empty, or the datalist cannot be used.
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
                "expected instances of an image to validate on, "
                f"{datalist or f'fold {fold}'} has none: choose another"
            )
    if at_most is None or at_most >= len(chosen):
        return chosen
    return [chosen[(2 * i + 1) * len(chosen) // (2 * at_most)] for i in range(at_most)]


def write_datalists(root: str | Path, out: str | Path, *, folds: int = 11, by: str = "embryo") -> list[Path]:
    """Write a datalist per fold, ``fold00.json`` and so on, which `split` and MONAI's own loaders read.

    Parameters
    ----------
    root
        Dataset folder in BBBC050's layout.
    out
        Folder for the files.
    folds, by
        See `split`.

    Raises
    ------
    InputError
        As `split`.
    OutputError
        If the folder cannot be written to.
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
    """The pairs of one side of a fold."""
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
            "fold or a dataset with more"
        )
    return chosen


def _listed(path: Path, target: str, subset: str, partial: bool) -> list[dict[str, str]]:
    """The pairs of one side of a datalist."""
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
            f"{path} is no datalist ({type(error).__name__}: {error}); expected JSON of training and "
            "validation, lists of image and label"
        ) from error
    paths = [item[key] for item in chosen for key in ("image", "label")]
    missing = [one for one in paths if not Path(one).is_file()]
    if missing or not chosen:
        raise InputError(
            f"expected files in {side} of {path}, " + (f"{missing[0]} is missing" if missing else "got none")
        )
    return chosen


def _named(entry: dict[str, Any], target: str, partial: bool) -> tuple[Any, str]:
    """The path of a datalist's entry, and what it annotates."""
    label = f"label_{target.lower()}"
    if partial and label not in entry and "label" not in entry:
        for other, annotation in STAND_INS.items():
            if f"label_{other.lower()}" in entry:
                return entry[f"label_{other.lower()}"], annotation
    return entry.get(label, entry.get("label")), "instances"


def _from(folder: Path, path: str) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
