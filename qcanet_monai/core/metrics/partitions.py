"""Metrics that compare two label images as partitions of the voxels: Rand errors, entropies."""

from typing import NamedTuple

import numpy as np

from qcanet_monai.core.metrics.overlap import Floats, Ints, Overlap, ratio_or_nan


class AdaptedRand(NamedTuple):
    """Adapted Rand error, with the precision and recall of its voxel pairs."""

    error: float
    precision: float
    recall: float


class VariationOfInformation(NamedTuple):
    """Conditional entropies in bits: of splits, H(prediction | reference), and merges, the reverse."""

    split_bits: float
    merge_bits: float


def rand_error(overlap: Overlap) -> float:
    """Share of voxel pairs on which the two images disagree whether they lie together.

    Parameters
    ----------
    overlap : Overlap
        Table of the two label images.

    Returns
    -------
    float
        1 - Rand index, in [0, 1]; NaN for an image of fewer than two voxels.

    Notes
    -----
    Background counts as one more label. Rand (1971), doi:10.1080/01621459.1971.10482356.
    """
    n = float(overlap.n_voxels.sum())
    together = _sum_of_squares(overlap.n_voxels)
    in_reference = _sum_of_squares(_marginal(overlap.reference_label, overlap.n_voxels))
    in_prediction = _sum_of_squares(_marginal(overlap.predicted_label, overlap.n_voxels))
    return ratio_or_nan(in_reference + in_prediction - 2 * together, n * (n - 1))


def adapted_rand_error(overlap: Overlap) -> AdaptedRand:
    """Adapted Rand error as in SNEMI3D: 1 - F of "these two voxels lie in one object".

    Parameters
    ----------
    overlap : Overlap
        Table of the two label images.

    Returns
    -------
    AdaptedRand
        Error, precision (low where objects were merged) and recall (low where they were split),
        in [0, 1]; NaN where no pair of voxels lies in one object.

    Notes
    -----
    Reference background is left out, predicted background counts as one more label, and a voxel
    makes no pair with itself. Arganda-Carreras et al. (2015), doi:10.3389/fnana.2015.00142.
    scikit-image gives the same error, but up to 0.26 it returns these two under each other's name.
    """
    labelled = overlap.reference_label > 0
    counts = overlap.n_voxels[labelled]
    together = _ordered_pairs(counts)
    in_reference = _ordered_pairs(overlap.reference_sizes)
    in_prediction = _ordered_pairs(_marginal(overlap.predicted_label[labelled], counts))
    return AdaptedRand(
        error=1 - ratio_or_nan(2 * together, in_reference + in_prediction),
        precision=ratio_or_nan(together, in_prediction),
        recall=ratio_or_nan(together, in_reference),
    )


def variation_of_information(overlap: Overlap, *, foreground_only: bool = False) -> VariationOfInformation:
    """Bits that the one labelling leaves open about the other.

    Parameters
    ----------
    overlap : Overlap
        Table of the two label images.
    foreground_only : bool
        Leave out the voxels that are background in either image, as 3DCellSeg's numbers do;
        otherwise background counts as one more label.

    Returns
    -------
    VariationOfInformation
        Split and merge errors in bits, 0 is perfect; NaN where no voxel counts.

    Notes
    -----
    Meila (2007), doi:10.1016/j.jmva.2006.11.013.
    """
    reference, predicted, counts = overlap.reference_label, overlap.predicted_label, overlap.n_voxels
    if foreground_only:
        both = (reference > 0) & (predicted > 0)
        reference, predicted, counts = reference[both], predicted[both], counts[both]
    if not counts.size:
        return VariationOfInformation(float("nan"), float("nan"))
    joint = _entropy_bits(counts)
    # Rounding must not turn a perfect score into one below zero.
    return VariationOfInformation(
        split_bits=max(0.0, joint - _entropy_bits(_marginal(reference, counts))),
        merge_bits=max(0.0, joint - _entropy_bits(_marginal(predicted, counts))),
    )


def _marginal(labels: Ints, counts: Ints) -> Floats:
    """Voxels of each label that occurs."""
    _, inverse = np.unique(labels, return_inverse=True)
    voxels: Floats = np.bincount(inverse, weights=counts).astype(np.float64)
    return voxels


def _sum_of_squares(counts: Ints | Floats) -> float:
    # In float: the squares of a large volume's counts do not fit into int64.
    return float(np.square(counts, dtype=np.float64).sum())


def _ordered_pairs(counts: Ints | Floats) -> float:
    return _sum_of_squares(counts) - float(counts.sum())


def _entropy_bits(counts: Ints | Floats) -> float:
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
