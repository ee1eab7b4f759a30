"""Metrics that compare two label images as partitions: Rand errors and entropies."""

from typing import NamedTuple

import numpy as np

from qcanet_monai.core.metrics.overlap import Floats, Ints, Overlap, ratio_or_nan


class AdaptedRand(NamedTuple):
    """Adapted Rand error with the precision and recall of its voxel pairs."""

    error: float
    precision: float
    recall: float


class VariationOfInformation(NamedTuple):
    """Split error H(pred | ref) and merge error H(ref | pred) in bits."""

    split_bits: float
    merge_bits: float


def rand_error(overlap: Overlap) -> float:
    """Compute the Rand error, the fraction of voxel pairs grouped differently.

    The error is 1 - Rand index, in [0, 1]; NaN for an image of fewer than two voxels. Background counts as a
    label. Rand (1971), doi:10.1080/01621459.1971.10482356.
    """
    n = float(overlap.n_voxels.sum())
    together = _sum_of_squares(overlap.n_voxels)
    in_reference = _sum_of_squares(_marginal(overlap.reference_label, overlap.n_voxels))
    in_prediction = _sum_of_squares(_marginal(overlap.predicted_label, overlap.n_voxels))
    return ratio_or_nan(in_reference + in_prediction - 2 * together, n * (n - 1))


def adapted_rand_error(overlap: Overlap) -> AdaptedRand:
    """Compute the adapted Rand error of SNEMI3D, 1 - F score of voxel pairs.

    Precision is low for merged objects, recall for split objects. All values lie in [0, 1], or are NaN if no
    two voxels lie in the same object. Reference background is excluded, predicted background counts as a
    label, and a voxel is not paired with itself. Arganda-Carreras et al. (2015),
    doi:10.3389/fnana.2015.00142.

    scikit-image computes the same error, but up to version 0.26 returns precision and recall swapped.
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
    """Compute the variation of information between two label images, in bits.

    Both errors are 0 for a perfect prediction and NaN if no voxel counts. Meila (2007),
    doi:10.1016/j.jmva.2006.11.013.

    Parameters
    ----------
    overlap : Overlap
        Overlap table of the two label images.
    foreground_only : bool
        Exclude voxels that are background in either image, as 3DCellSeg does. Otherwise background counts as
        a label.
    """
    reference, predicted, counts = overlap.reference_label, overlap.predicted_label, overlap.n_voxels
    if foreground_only:
        both = (reference > 0) & (predicted > 0)
        reference, predicted, counts = reference[both], predicted[both], counts[both]
    if not counts.size:
        return VariationOfInformation(float("nan"), float("nan"))
    joint = _entropy_bits(counts)
    # rounding can make a perfect score slightly negative
    return VariationOfInformation(
        split_bits=max(0.0, joint - _entropy_bits(_marginal(reference, counts))),
        merge_bits=max(0.0, joint - _entropy_bits(_marginal(predicted, counts))),
    )


def _marginal(labels: Ints, counts: Ints) -> Floats:
    """Count the voxels of each label, in ascending order of label."""
    _, inverse = np.unique(labels, return_inverse=True)
    voxels: Floats = np.bincount(inverse, weights=counts).astype(np.float64)
    return voxels


def _sum_of_squares(counts: Ints | Floats) -> float:
    # float, because the squared counts of a large volume overflow int64
    return float(np.square(counts, dtype=np.float64).sum())


def _ordered_pairs(counts: Ints | Floats) -> float:
    return _sum_of_squares(counts) - float(counts.sum())


def _entropy_bits(counts: Ints | Floats) -> float:
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
