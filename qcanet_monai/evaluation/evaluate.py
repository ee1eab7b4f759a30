"""Scoring of segmentations against references: arrays, files, folders or tracks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qcanet_monai.core.metrics.overlap import Overlap, overlap_table
from qcanet_monai.core.metrics.scores import evaluate, seg_pooled
from qcanet_monai.core.metrics.tracks import division_scores, tracking_scores
from qcanet_monai.errors import InputError
from qcanet_monai.io import Volume, read_labels
from qcanet_monai.io.names import Frame, frames_of, label_stem, list_images, stem_of
from qcanet_monai.timelapse.ctc import is_tracked, tracked_images

Scores = dict[str, float]


def evaluate_labels(
    prediction: ArrayLike | Volume | str | Path,
    reference: ArrayLike | Volume | str | Path,
    *,
    spacing: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Score labels against a reference with every metric.

    Parameters
    ----------
    prediction, reference
        Two label images (Z, Y, X), 0 background, as arrays or volumes; two files; two folders with the same
        image names, apart from ``_labels``; or two tracked series in the Cell Tracking Challenge format.
        Time points of a file or OME-Zarr image are named ``STEM_t000``, ….
    spacing
        Voxel size (z, y, x) in µm; by default that of the volume or file.

    Returns
    -------
    dict
        Scores of two label images. For files, scores by image name; for folders also ``mean``, over the
        images in which a metric is defined, with ``seg_pooled`` over all objects; for tracked series,
        ``tracks``, see `evaluate_tracks`. Metrics in µm are omitted if the spacing is unknown.

    Raises
    ------
    InputError
        If the labels, files or spacing cannot be used, or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> import qcanet_monai as qcanet
    >>> truth = np.zeros((8, 16, 16), int)
    >>> truth[2:6, 2:8, 2:8] = 1
    >>> scores = qcanet.evaluate(np.roll(truth, 1, axis=2), truth, spacing=(2.0, 1.0, 1.0))
    >>> round(scores["iou"], 3), scores["relative_volume_error"]
    (0.714, 0.0)
    """
    if isinstance(prediction, str | Path) and isinstance(reference, str | Path):
        return _evaluate_paths(Path(prediction), Path(reference), spacing)
    if isinstance(prediction, str | Path) or isinstance(reference, str | Path):
        raise InputError("expected two label images or two paths, got one of each: use read_labels on paths")
    arrays = [one.array if isinstance(one, Volume) else np.asarray(one) for one in (reference, prediction)]
    known = spacing or _known_spacing(*(one for one in (reference, prediction) if isinstance(one, Volume)))
    return dict(evaluate(arrays[0], arrays[1], spacing=known))


def _evaluate_paths(prediction: Path, reference: Path, spacing: Sequence[float] | None) -> dict[str, Any]:
    for path in (prediction, reference):
        if not path.exists():
            raise InputError(f"{path} does not exist")
    if prediction.is_dir() != reference.is_dir():
        raise InputError(f"expected two files or two folders, got {prediction} and {reference}")
    if is_tracked(prediction) and is_tracked(reference):
        return {"tracks": evaluate_tracks(prediction, reference)}
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


def _evaluate(
    prediction: Path | Frame, reference: Path | Frame, spacing: Sequence[float] | None
) -> tuple[Scores, Overlap]:
    found, true = _read(prediction, spacing), _read(reference, spacing)
    known = _known_spacing(true, found)
    overlap = overlap_table(true.array, found.array)
    return evaluate(true.array, found.array, spacing=known, overlap=overlap), overlap


def _read(image: Path | Frame, spacing: Sequence[float] | None) -> Volume:
    path, frame = image if isinstance(image, Frame) else (image, None)
    return read_labels(path, spacing=spacing, need_spacing=False, frame=frame)


def _known_spacing(*volumes: Volume) -> tuple[float, float, float] | None:
    known = [v for v in volumes if not any(math.isnan(s) for s in v.spacing)]
    if len(known) > 1 and not np.allclose(known[0].spacing, known[1].spacing, rtol=0.01):
        one, other = (" × ".join(f"{size:.4g}" for size in v.spacing) for v in known)
        raise InputError(
            f"expected labels of the same voxel size, got {one} µm in {known[0].source} and {other} µm in "
            f"{known[1].source}: give the right one with --spacing Z Y X"
        )
    return known[0].spacing if known else None


def _pair(prediction: Path, reference: Path) -> dict[str, tuple[Path | Frame, Path | Frame]]:
    found, true = (
        {label_stem(image): image for image in frames_of(list_images([folder]))}
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


def evaluate_tracks(prediction: str | Path, reference: str | Path, *, tolerance: int = 2) -> Scores:
    """Compute DET, SEG, TRA, LNK and division scores of a tracked series.

    Parameters
    ----------
    prediction, reference
        Folders in the Cell Tracking Challenge format; the reference's label images show whole nuclei.
    tolerance
        Frames by which a division may be early or late.

    Raises
    ------
    InputError
        If a folder is not a tracked series, or the numbers of frames differ.
    """
    (found, tracks), (true, true_tracks) = tracked_images(prediction), tracked_images(reference)
    if len(found) != len(true):
        raise InputError(f"expected {len(true)} frames in {prediction}, as in {reference}, got {len(found)}")
    tables = [
        overlap_table(
            read_labels(one, need_spacing=False).array, read_labels(other, need_spacing=False).array
        )
        for one, other in zip(true, found, strict=True)
    ]
    scores = tracking_scores(tables, true_tracks, tracks)
    divisions = division_scores(tables, true_tracks, tracks, tolerance=tolerance)
    return {
        **{name: float(value) for name, value in scores._asdict().items()},
        "seg": seg_pooled(tables),
        **{f"divisions_{name}": float(value) for name, value in divisions._asdict().items()},
    }
