"""Metrics of a predicted against a reference label image, without a time axis.

`evaluate` builds one `Overlap` and computes every metric from it. Undefined values are NaN.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcanet_monai.core.metrics.cells import cell_scores
from qcanet_monai.core.metrics.detection import (
    RADIUS_UM,
    average_precision,
    centroids_um,
    detection_scores,
    hausdorff_um,
    panoptic_quality,
)
from qcanet_monai.core.metrics.overlap import Floats, Overlap, mean_or_nan, overlap_table, ratio_or_nan
from qcanet_monai.core.metrics.partitions import adapted_rand_error, rand_error, variation_of_information

COCO_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))


def iou(overlap: Overlap) -> float:
    """Return the foreground IoU (Tokuoka et al. 2020, eq. 4); NaN if both are empty."""
    common = overlap.n_common_voxels
    return ratio_or_nan(common, overlap.n_reference_voxels + overlap.n_predicted_voxels - common)


def dice(overlap: Overlap) -> float:
    """Return the foreground 2 TP / (2 TP + FP + FN); NaN if both images are empty."""
    return ratio_or_nan(2 * overlap.n_common_voxels, overlap.n_reference_voxels + overlap.n_predicted_voxels)


def relative_volume_error(overlap: Overlap) -> float:
    """Return the foreground |V_pred - V_ref| / V_ref; NaN for an empty reference."""
    reference = overlap.n_reference_voxels
    return ratio_or_nan(abs(overlap.n_predicted_voxels - reference), reference)


def seg_per_object(overlap: Overlap) -> Floats:
    """Return the IoU of each reference object for SEG, float64 of shape (n_ref,).

    The IoU is that of reference object R with the one predicted object S for which |R and S| > 0.5 |R|; 0
    without such an S. Cell Tracking Challenge, Maska et al. (2014), doi:10.1093/bioinformatics/btu080.
    """
    scores = np.zeros(overlap.n_ref)
    held = _holds_most(overlap)
    scores[overlap.pairs.reference[held]] = overlap.pairs.iou[held]
    return scores


def seg(overlap: Overlap) -> float:
    """Return SEG (Tokuoka et al. 2020, eq. 5) of one volume; NaN without objects."""
    return mean_or_nan(seg_per_object(overlap))


def seg_pooled(tables: Iterable[Overlap]) -> float:
    """Return SEG over the reference objects of all volumes; NaN without objects.

    The Cell Tracking Challenge pools volumes in this way. Volumes with many objects weigh more.
    """
    return mean_or_nan(np.concatenate([np.zeros(0), *map(seg_per_object, tables)]))


def seg_mean(tables: Iterable[Overlap]) -> float:
    """Return the mean SEG of several volumes, as in the QCANet paper.

    Volumes without reference objects are skipped; NaN if no volume has any.
    """
    scores = np.array([seg(table) for table in tables])
    return mean_or_nan(scores[~np.isnan(scores)])


def mucov(overlap: Overlap) -> float:
    """Compute MUCov of the QCANet paper (Tokuoka et al. 2020, eq. 6).

    Each *predicted* object S scores its best IoU with a reference object R that S covers by more than half
    (|R and S| > 0.5 |R|), or 0 without such an R. MUCov is the mean score, NaN without predicted objects.
    False predictions lower MUCov; missed nuclei do not. doi:10.1038/s41540-020-00152-8.
    """
    held = _holds_most(overlap)
    best = np.zeros(overlap.n_pred)
    np.maximum.at(best, overlap.pairs.predicted[held], overlap.pairs.iou[held])
    return mean_or_nan(best)


def mucov_reference(overlap: Overlap) -> float:
    """Compute the mean unweighted coverage, the mean best IoU of reference objects.

    NaN without reference objects. Overlaps of any size count, and a predicted object may be matched to
    several reference objects. Silberman et al. (2014), Instance segmentation of indoor scenes using a
    coverage loss, ECCV.
    """
    return mean_or_nan(cell_scores(overlap).jaccard)


def mwcov_reference(overlap: Overlap) -> float:
    """Compute the mean weighted coverage, `mucov_reference` weighted by object size."""
    weighted = cell_scores(overlap).jaccard * overlap.reference_sizes
    return ratio_or_nan(float(weighted.sum()), overlap.n_reference_voxels)


def evaluate(
    reference: ArrayLike,
    prediction: ArrayLike,
    *,
    spacing: Sequence[float] | None = None,
    radius_um: float = RADIUS_UM,
    overlap: Overlap | None = None,
) -> dict[str, float]:
    """Score a label image against a reference with all metrics of a single volume.

    Parameters
    ----------
    reference, prediction : array_like of int or bool, shape (Z, Y, X)
        Label images of the same shape, 0 is background; labels may have gaps.
    spacing : sequence of float, optional
        Voxel size (z, y, x) in µm; None omits the metrics in µm.
    radius_um : float
        Maximum distance in µm between matched centres.
    overlap : Overlap, optional
        Overlap table of the two images, if already computed.

    Returns
    -------
    dict of str to float
        Values by metric; NaN where undefined. Names end in the unit, if any. Numbers in names are thresholds
        of IoU, Jaccard or Dice; in `detection_*` names, the radius.

    Raises
    ------
    InputError
        If the shapes differ, or the labels, the spacing or the radius are invalid.
    """
    overlap = overlap_table(reference, prediction) if overlap is None else overlap
    scores = {
        "n_ref": float(overlap.n_ref),
        "n_pred": float(overlap.n_pred),
        "count_difference": float(overlap.n_pred - overlap.n_ref),
        "iou": iou(overlap),
        "dice": dice(overlap),
        "seg": seg(overlap),
        "mucov": mucov(overlap),
        "mucov_reference": mucov_reference(overlap),
        "mwcov_reference": mwcov_reference(overlap),
        **_matching_scores(overlap),
        **_partition_scores(overlap),
        **_cell_summary(overlap),
        "relative_volume_error": relative_volume_error(overlap),
    }
    if spacing is not None:
        found = detection_scores(
            centroids_um(reference, spacing=spacing),
            centroids_um(prediction, spacing=spacing),
            radius_um=radius_um,
        )
        scores |= {
            f"detection_precision_{radius_um:g}um": found.precision,
            f"detection_recall_{radius_um:g}um": found.recall,
            f"detection_f_{radius_um:g}um": found.f,
            "hausdorff_um": hausdorff_um(reference, prediction, spacing=spacing),
        }
    return scores


def _holds_most(overlap: Overlap) -> NDArray[np.bool_]:
    """Mark pairs whose prediction covers over half of the reference object."""
    held: NDArray[np.bool_] = 2 * overlap.pairs.n_voxels > overlap.reference_sizes[overlap.pairs.reference]
    return held


def _matching_scores(overlap: Overlap) -> dict[str, float]:
    scores = {f"average_precision_{t:g}": average_precision(overlap, t) for t in (0.5, 0.75)}
    every = [average_precision(overlap, t) for t in COCO_THRESHOLDS]
    scores["average_precision_mean_0.5_to_0.95"] = mean_or_nan(np.array(every))
    for threshold in (0.5, 0.75):
        quality = panoptic_quality(overlap, threshold)
        scores[f"panoptic_quality_{threshold:g}"] = quality.pq
        scores[f"segmentation_quality_{threshold:g}"] = quality.sq
        scores[f"recognition_quality_{threshold:g}"] = quality.rq
    return scores


def _partition_scores(overlap: Overlap) -> dict[str, float]:
    adapted = adapted_rand_error(overlap)
    everywhere = variation_of_information(overlap)
    foreground = variation_of_information(overlap, foreground_only=True)
    return {
        "rand_error": rand_error(overlap),
        "adapted_rand_error": adapted.error,
        "adapted_rand_precision": adapted.precision,
        "adapted_rand_recall": adapted.recall,
        "voi_split_bits": everywhere.split_bits,
        "voi_merge_bits": everywhere.merge_bits,
        "voi_split_foreground_bits": foreground.split_bits,
        "voi_merge_foreground_bits": foreground.merge_bits,
    }


def _cell_summary(overlap: Overlap) -> dict[str, float]:
    cells = cell_scores(overlap)
    summary = {}
    for name, values in (("jaccard", cells.jaccard), ("dice", cells.dice)):
        summary[f"cell_{name}_mean"] = mean_or_nan(values)
        for level in (0.5, 0.7):
            summary[f"cell_{name}_share_above_{level:g}"] = mean_or_nan(values > level)
    summary["cell_relative_volume_error_mean"] = mean_or_nan(cells.relative_volume_error)
    return summary
