"""One-to-one matching of predicted and reference objects, by overlap or distance."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from qcanet_monai.core.metrics.overlap import Floats, Ints, Overlap, as_labels, ratio_or_nan
from qcanet_monai.errors import InputError

RADIUS_UM = 3.28
"""Maximum distance in µm between matched predicted and reference centres (Tokuoka et al. 2020)."""


class PanopticQuality(NamedTuple):
    """Panoptic quality `pq`, mean IoU of matches `sq` and recognition quality `rq`."""

    pq: float
    sq: float
    rq: float


class Detection(NamedTuple):
    """Precision, recall, F score and number of one-to-one matches of a detection."""

    precision: float
    recall: float
    f: float
    n_matched: int


def matched_ious(overlap: Overlap, threshold: float) -> Floats:
    """Compute the IoU of each one-to-one match, shape (n_matched,).

    The assignment maximises the number of matches, then the sum of their IoU.

    Parameters
    ----------
    overlap : Overlap
        Overlap table of the two label images.
    threshold : float
        Minimum IoU of a match, in (0, 1].

    Raises
    ------
    InputError
        If the threshold is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise InputError(f"an IoU threshold must lie in (0, 1], got {threshold}: give e.g. 0.5")
    pairs = overlap.pairs
    allowed = pairs.iou >= threshold
    iou = pairs.iou[allowed]
    chosen = _assign(
        pairs.reference[allowed], pairs.predicted[allowed], 1 - iou, overlap.n_ref, overlap.n_pred
    )
    return iou[chosen]


def average_precision(overlap: Overlap, threshold: float = 0.5) -> float:
    """Compute the average precision TP / (TP + FP + FN) at an IoU threshold.

    This definition of the Data Science Bowl (Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7) is not an
    area under a precision-recall curve, because label images carry no confidence. The value lies in [0, 1],
    or is NaN if neither image contains an object.

    Parameters
    ----------
    overlap, threshold
        See `matched_ious`.
    """
    n_matched = len(matched_ious(overlap, threshold))
    return ratio_or_nan(n_matched, overlap.n_ref + overlap.n_pred - n_matched)


def panoptic_quality(overlap: Overlap, threshold: float = 0.5) -> PanopticQuality:
    """Compute the panoptic quality at an IoU threshold (Kirillov et al. 2019).

    pq = sum of matched IoU / (TP + FP/2 + FN/2) = sq * rq, arXiv:1801.00868. All values are NaN if neither
    image contains an object; only sq is NaN if nothing matches.

    Parameters
    ----------
    overlap, threshold
        See `matched_ious`.
    """
    ious = matched_ious(overlap, threshold)
    mean_objects = (overlap.n_ref + overlap.n_pred) / 2
    return PanopticQuality(
        pq=ratio_or_nan(float(ious.sum()), mean_objects),
        sq=ratio_or_nan(float(ious.sum()), len(ious)),
        rq=ratio_or_nan(len(ious), mean_objects),
    )


def centroids_um(labels: ArrayLike, *, spacing: Sequence[float]) -> Floats:
    """Compute the centroid of each object.

    Parameters
    ----------
    labels : array_like of int or bool, shape (Z, Y, X)
        Label image, 0 is background; labels may have gaps.
    spacing : sequence of float
        Voxel size (z, y, x) in µm.

    Returns
    -------
    ndarray of float64, shape (n_objects, 3)
        Centroids (z, y, x) in µm from the centre of the first voxel, in ascending order of label.

    Raises
    ------
    InputError
        If `labels` is not a label image or `spacing` is not positive and finite.
    """
    array = as_labels(labels, "labels")
    step = _check_spacing(spacing, array.ndim)
    where = np.nonzero(array)
    _, index, sizes = np.unique(array[where], return_inverse=True, return_counts=True)
    sums = [np.bincount(index, weights=axis, minlength=len(sizes)) for axis in where]
    centres: Floats = np.stack(sums, axis=-1) / sizes[:, None] * step
    return centres


def detection_scores(
    reference_um: ArrayLike, predicted_um: ArrayLike, *, radius_um: float = RADIUS_UM
) -> Detection:
    """Score predicted centres against reference centres, matched within a radius.

    The assignment maximises the number of one-to-one matches, then minimises the sum of distances. The order
    of the points does not matter. The default radius is that of Ram et al. (2018), Joint cell nuclei
    detection and segmentation in microscopy images using 3D convolutional networks.

    Parameters
    ----------
    reference_um, predicted_um : array_like of float, shape (n, n_axes)
        Centres in µm.
    radius_um : float
        Maximum distance of a match in µm, inclusive.

    Returns
    -------
    Detection
        Precision (NaN without predictions), recall (NaN without references), F (NaN without both).

    Raises
    ------
    InputError
        If the radius is not positive and finite, or the points differ in their number of axes.
    """
    if not (np.isfinite(radius_um) and radius_um > 0):
        raise InputError(f"radius_um must be a positive length in µm, got {radius_um}: give e.g. 3.28")
    reference, predicted = np.asarray(reference_um, float), np.asarray(predicted_um, float)
    n_ref, n_pred, n_matched = len(reference), len(predicted), 0
    if n_ref and n_pred:
        if reference.ndim != 2 or predicted.ndim != 2 or reference.shape[1] != predicted.shape[1]:
            raise InputError(
                "expected points of shape (n, n_axes) with the same number of axes, got shapes "
                f"{reference.shape} and {predicted.shape}: give e.g. the results of centroids_um"
            )
        near = cKDTree(reference).sparse_distance_matrix(cKDTree(predicted), radius_um, output_type="ndarray")
        n_matched = int(_assign(near["i"], near["j"], near["v"], n_ref, n_pred).sum())
    return Detection(
        precision=ratio_or_nan(n_matched, n_pred),
        recall=ratio_or_nan(n_matched, n_ref),
        f=ratio_or_nan(2 * n_matched, n_ref + n_pred),
        n_matched=n_matched,
    )


def hausdorff_um(reference: ArrayLike, prediction: ArrayLike, *, spacing: Sequence[float]) -> float:
    """Compute the Hausdorff distance in µm between the surfaces of two foregrounds.

    This is the largest distance from the centre of a surface voxel of one image to the nearest surface voxel
    of the other; NaN if either foreground is empty. A surface voxel is a foreground voxel that shares a face
    with background or with the image's border.

    Parameters
    ----------
    reference, prediction : array_like of int or bool, shape (Z, Y, X)
        Label images or masks, 0 is background.
    spacing : sequence of float
        Voxel size (z, y, x) in µm.

    Raises
    ------
    InputError
        If the shapes differ, or the labels or the spacing are invalid.
    """
    ref, pred = as_labels(reference, "reference") > 0, as_labels(prediction, "prediction") > 0
    if ref.shape != pred.shape:
        raise InputError(
            f"reference and prediction must have the same shape, got {ref.shape} and {pred.shape}: "
            "resample or crop one to the other's grid"
        )
    step = _check_spacing(spacing, ref.ndim)
    if not (ref.any() and pred.any()):
        return float("nan")
    a, b = (np.argwhere(mask & ~ndi.binary_erosion(mask)) * step for mask in (ref, pred))
    return float(max(cKDTree(a).query(b)[0].max(), cKDTree(b).query(a)[0].max()))


def _assign(rows: Ints, columns: Ints, costs: Floats, n_rows: int, n_columns: int) -> NDArray[np.bool_]:
    """Mark the one-to-one pairs with the most matches, then the lowest total cost."""
    if not len(costs):
        return np.zeros(0, bool)
    # Each row may also take a private column, so that a full matching always exists. That column costs
    # more than all real pairs together, so no real pair is dropped to save cost.
    # Adding 1 keeps the sparse graph from reading zero costs as missing edges.
    alone = np.arange(n_rows)
    too_dear = 2 + (min(n_rows, n_columns) + 1) * float(costs.max())
    weights = np.concatenate([1 + costs, np.full(n_rows, too_dear)])
    # SciPy's matching accepts only int32 indices up to version 1.17.1
    edges = np.stack([np.r_[rows, alone], np.r_[columns, n_columns + alone]]).astype(np.int32)
    graph = coo_array((weights, tuple(edges)), shape=(n_rows, n_columns + n_rows)).tocsr()
    matched_rows, matched_columns = min_weight_full_bipartite_matching(graph)
    partner = np.empty(n_rows, np.int64)
    partner[matched_rows] = matched_columns
    chosen: NDArray[np.bool_] = partner[rows] == columns
    return chosen


def _check_spacing(spacing: Sequence[float], n_axes: int) -> NDArray[Any]:
    step = np.asarray(spacing, float)
    if step.shape != (n_axes,) or not (np.isfinite(step) & (step > 0)).all():
        raise InputError(
            f"spacing must be {n_axes} positive voxel sizes in µm, one per axis (z, y, x), got {spacing}: "
            "read it from the microscope's metadata, e.g. (1.75, 0.8, 0.8)"
        )
    return step
