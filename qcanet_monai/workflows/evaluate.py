"""Score segmentations against references, a pair of files or two folders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcanet_monai.core.metrics import evaluate, seg_pooled
from qcanet_monai.core.overlap import Overlap, overlap_table
from qcanet_monai.errors import InputError
from qcanet_monai.io import Volume, read_labels
from qcanet_monai.io.names import list_images, stem_of

Scores = dict[str, float]


def evaluate_paths(
    prediction: Path, reference: Path, *, spacing: Sequence[float] | None = None
) -> dict[str, Scores]:
    """Every metric of label images against their references.

    Parameters
    ----------
    prediction, reference
        Two label images, or two folders whose images have the same names (``_labels`` at the end of a
        stem does not count).
    spacing
        Voxel size (z, y, x) in µm; the reference's, else the prediction's if None. Metrics in µm are left
        out where no one knows it.

    Returns
    -------
    dict
        Scores per image; for folders also ``mean``, the mean over the images where a metric is defined,
        with ``seg_pooled`` over all objects.

    Raises
    ------
    InputError
        If files cannot be read or paired.
    """
    if prediction.is_dir() != reference.is_dir():
        raise InputError(f"expected two files or two folders, got {prediction} and {reference}")
    if not prediction.is_dir():
        scores, _ = _evaluate(prediction, reference, spacing)
        return {stem_of(prediction): scores}
    pairs = _pair(prediction, reference)
    results, tables = {}, []
    for name, (found, true) in pairs.items():
        results[name], table = _evaluate(found, true, spacing)
        tables.append(table)
    results["mean"] = _mean(list(results.values())) | {"seg_pooled": seg_pooled(tables)}
    return results


def _evaluate(prediction: Path, reference: Path, spacing: Sequence[float] | None) -> tuple[Scores, Overlap]:
    found = read_labels(prediction, spacing=spacing, need_spacing=False)
    true = read_labels(reference, spacing=spacing, need_spacing=False)
    known = _known_spacing(true, found)
    overlap = overlap_table(true.array, found.array)
    return evaluate(true.array, found.array, spacing=known, overlap=overlap), overlap


def _known_spacing(*volumes: Volume) -> tuple[float, float, float] | None:
    return next((v.spacing for v in volumes if not any(math.isnan(s) for s in v.spacing)), None)


def _pair(prediction: Path, reference: Path) -> dict[str, tuple[Path, Path]]:
    found, true = (
        {stem_of(p).removesuffix("_labels"): p for p in list_images([folder])}
        for folder in (prediction, reference)
    )
    missing = sorted(set(true) - set(found))
    if missing:
        raise InputError(
            f"expected a prediction in {prediction} for every reference, {len(missing)} are missing, "
            f"the first is {missing[0]}"
        )
    return {name: (found[name], path) for name, path in true.items()}


def _mean(rows: list[Scores]) -> Scores:
    def mean(name: str) -> float:
        values = np.array([row[name] for row in rows if name in row and not math.isnan(row[name])])
        return float(values.mean()) if len(values) else math.nan

    return {name: mean(name) for name in rows[0]}
