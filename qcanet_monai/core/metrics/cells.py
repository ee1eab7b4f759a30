"""Scores of each reference cell against the predicted object of highest IoU."""

from typing import NamedTuple

import numpy as np

from qcanet_monai.core.metrics.overlap import Floats, Ints, Overlap


class CellScores(NamedTuple):
    """Scores of each reference cell against the predicted object of highest IoU.

    Attributes
    ----------
    label : ndarray of int64, shape (n_ref,)
        Reference labels, ascending.
    jaccard, dice : ndarray of float64, shape (n_ref,)
        Jaccard index (IoU) and Dice coefficient; 0 if no predicted object overlaps the cell.
    relative_volume_error : ndarray of float64, shape (n_ref,)
        |V_pred - V_ref| / V_ref; 1 if no predicted object overlaps the cell.
    """

    label: Ints
    jaccard: Floats
    dice: Floats
    relative_volume_error: Floats


def cell_scores(overlap: Overlap) -> CellScores:
    """Compute Jaccard index, Dice coefficient and volume error of each cell.

    Ties in IoU take the lowest predicted label; a predicted object may be matched to several cells. Jaccard
    and Dice as in 3DCellSeg, Wang et al. (2022), doi:10.1038/s41598-021-04048-3.
    """
    pairs = overlap.pairs
    order = np.lexsort((pairs.predicted, -pairs.iou, pairs.reference))
    covered, first = np.unique(pairs.reference[order], return_index=True)
    best = order[first]
    jaccard = np.zeros(overlap.n_ref)
    jaccard[covered] = pairs.iou[best]
    sizes = overlap.reference_sizes
    volume = np.zeros(overlap.n_ref)
    volume[covered] = overlap.predicted_sizes[pairs.predicted[best]]
    common = np.zeros(overlap.n_ref)
    common[covered] = pairs.n_voxels[best]
    return CellScores(
        label=overlap.reference_labels,
        jaccard=jaccard,
        dice=2 * common / (sizes + volume),
        relative_volume_error=np.abs(volume - sizes) / sizes,
    )
