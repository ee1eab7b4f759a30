"""Training data in the layout of BBBC050: which files belong together, and how they are split."""

from __future__ import annotations

import re
from pathlib import Path

from qcanet_monai.errors import InputError
from qcanet_monai.io.names import natural_key

TARGETS = ("NSN", "NDN", "QCANet")
SUBSETS = ("train", "validation")


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


def pairs(root: str | Path, part: str, target: str) -> list[dict[str, str]]:
    """Every image of `part` with its truth for `target`, in natural order.

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
    found = [{"image": str(p), "label": str(truth_path(root, part, target, p.name))} for p in images]
    missing = [item["label"] for item in found if not Path(item["label"]).is_file()]
    if missing:
        raise InputError(
            f"expected a truth file for every image, {len(missing)} of {len(found)} are missing, "
            f"the first is {missing[0]}"
        )
    return found


def split(
    root: str | Path, target: str, subset: str, *, folds: int = 11, fold: int = 0, at_most: int | None = None
) -> list[dict[str, str]]:
    """Training or validation pairs of one fold of a cross-validation over embryos.

    Embryo i (in natural order) is held out in fold ``i % folds``, as in the paper's 11-fold
    cross-validation over 11 embryos; no embryo is on both sides.

    Parameters
    ----------
    root
        Dataset folder in BBBC050's layout.
    target
        "NSN", "NDN" or "QCANet".
    subset
        "train" or "validation".
    folds, fold
        Number of folds, at least 2, and which of them to hold out.
    at_most
        Keep only this many pairs, at least 1, evenly spread; all if None.

    Raises
    ------
    InputError
        If there is no such subset or fold, or a subset would be empty.
    """
    if subset not in SUBSETS:
        raise InputError(f"expected a subset of {', '.join(SUBSETS)}, got {subset!r}")
    if at_most is not None and at_most < 1:
        raise InputError(f"expected at_most to be at least 1, got {at_most}: leave it out to keep all pairs")
    if folds < 2 or not 0 <= fold < folds:
        raise InputError(
            f"expected folds of at least 2 and fold in 0..folds-1, got folds={folds}, fold={fold}"
        )
    found = pairs(root, "train", target)
    embryos = list(dict.fromkeys(embryo_of(Path(item["image"]).name) for item in found))
    held_out = {name for i, name in enumerate(embryos) if i % folds == fold}
    if not held_out or len(held_out) == len(embryos):
        raise InputError(
            f"expected training and validation embryos in {root}, got {len(embryos)} embryos for fold {fold} "
            f"of {folds}: use another fold or a dataset with more embryos"
        )
    wanted = subset == "validation"
    chosen = [item for item in found if (embryo_of(Path(item["image"]).name) in held_out) == wanted]
    if at_most is None or at_most >= len(chosen):
        return chosen
    return [chosen[(2 * i + 1) * len(chosen) // (2 * at_most)] for i in range(at_most)]
