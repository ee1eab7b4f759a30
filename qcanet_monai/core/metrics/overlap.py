"""Overlap table of two label images, the basis of the overlap metrics."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcanet_monai.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_INT64_MAX = int(np.iinfo(np.int64).max)
# Below this number of possible label pairs, a dense count is faster than sorting for any image size.
_DENSE_CODES = 1 << 20


class ObjectPairs(NamedTuple):
    """Pairs of a reference and a predicted object that share at least one voxel.

    Attributes
    ----------
    reference, predicted : ndarray of int64, shape (n_pairs,)
        Indices into `Overlap.reference_labels` and `Overlap.predicted_labels`.
    n_voxels : ndarray of int64, shape (n_pairs,)
        Number of shared voxels.
    iou : ndarray of float64, shape (n_pairs,)
        Intersection over union.
    """

    reference: Ints
    predicted: Ints
    n_voxels: Ints
    iou: Floats


@dataclass(frozen=True, eq=False)
class Overlap:
    """Sparse contingency table of a reference and a predicted label image.

    Attributes
    ----------
    reference_label, predicted_label : ndarray of int64, shape (n_entries,)
        Label pairs that occur, in ascending order; background is 0.
    n_voxels : ndarray of int64, shape (n_entries,)
        Number of voxels with each label pair, at least 1.
    reference_labels, predicted_labels : ndarray of int64, shape (n_ref,) and (n_pred,)
        Object labels, ascending, without background.
    reference_sizes, predicted_sizes : ndarray of int64, shape (n_ref,) and (n_pred,)
        Object sizes in voxels.
    """

    reference_label: Ints
    predicted_label: Ints
    n_voxels: Ints
    reference_labels: Ints
    reference_sizes: Ints
    predicted_labels: Ints
    predicted_sizes: Ints

    @property
    def n_ref(self) -> int:
        """Number of reference objects."""
        return len(self.reference_labels)

    @property
    def n_pred(self) -> int:
        """Number of predicted objects."""
        return len(self.predicted_labels)

    @property
    def n_reference_voxels(self) -> int:
        """Number of foreground voxels in the reference."""
        return int(self.reference_sizes.sum())

    @property
    def n_predicted_voxels(self) -> int:
        """Number of foreground voxels in the prediction."""
        return int(self.predicted_sizes.sum())

    @cached_property
    def n_common_voxels(self) -> int:
        """Number of voxels that are foreground in both images."""
        return int(self.pairs.n_voxels.sum())

    @cached_property
    def pairs(self) -> ObjectPairs:
        """Pairs of overlapping objects with their IoU, without background."""
        both = (self.reference_label > 0) & (self.predicted_label > 0)
        reference = np.searchsorted(self.reference_labels, self.reference_label[both])
        predicted = np.searchsorted(self.predicted_labels, self.predicted_label[both])
        common = self.n_voxels[both]
        union = self.reference_sizes[reference] + self.predicted_sizes[predicted] - common
        return ObjectPairs(reference, predicted, common, common / union)


def overlap_table(reference: ArrayLike, prediction: ArrayLike) -> Overlap:
    """Count the voxels that each pair of labels shares, in one pass.

    Parameters
    ----------
    reference, prediction : array_like of int or bool, same shape, any number of axes
        Label images, 0 is background; labels may have gaps. A mask counts as one object.

    Raises
    ------
    InputError
        If the shapes differ, a dtype is not integer, or a label is negative.

    Examples
    --------
    >>> table = overlap_table([0, 7, 7, 7], [0, 0, 2, 2])
    >>> table.n_voxels.tolist(), table.pairs.n_voxels.tolist()
    ([1, 1, 2], [2])
    """
    ref = as_labels(reference, "reference")
    pred = as_labels(prediction, "prediction")
    if ref.shape != pred.shape:
        raise InputError(
            f"reference and prediction must have the same shape, got {ref.shape} and {pred.shape}: "
            "resample or crop one to the other's grid"
        )
    ref_label, pred_label, n_voxels = _count_pairs(ref.ravel(), pred.ravel())
    ref_labels, ref_sizes = _sizes(ref_label, n_voxels)
    pred_labels, pred_sizes = _sizes(pred_label, n_voxels)
    return Overlap(ref_label, pred_label, n_voxels, ref_labels, ref_sizes, pred_labels, pred_sizes)


def as_labels(labels: ArrayLike, name: str) -> NDArray[Any]:
    """Check that an array is a label image.

    Parameters
    ----------
    labels : array_like of int or bool
        Label image, 0 is background.
    name : str
        Name of the array in error messages.

    Returns
    -------
    ndarray of int or bool
        The labels, without a copy where possible; uint64 becomes int64.

    Raises
    ------
    InputError
        If the dtype is not integer or bool, or a label is negative or over 2**63 - 1.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "biu":
        raise InputError(
            f"{name} must hold integer labels with 0 as background, its dtype is {array.dtype}: "
            "convert it, e.g. labels.astype('uint32'), or threshold probabilities first"
        )
    if array.dtype.kind == "i" and array.min(initial=0) < 0:
        raise InputError(
            f"{name} must hold labels of 0 (background) and above, its smallest is {array.min()}: "
            "set voxels to ignore to 0, or shift the labels"
        )
    if array.dtype == np.uint64:
        if array.max(initial=0) > _INT64_MAX:
            raise InputError(
                f"{name} must hold labels up to 2**63 - 1, its largest is {array.max()}: "
                "relabel it, e.g. skimage.segmentation.relabel_sequential"
            )
        array = array.astype(np.int64)
    return array


def ratio_or_nan(numerator: float, denominator: float) -> float:
    """Return numerator / denominator, or NaN if the denominator is 0."""
    return float(numerator / denominator) if denominator else math.nan


def mean_or_nan(values: NDArray[Any]) -> float:
    """Return the mean, or NaN for an empty array."""
    return float(values.mean()) if values.size else math.nan


def _count_pairs(ref: NDArray[Any], pred: NDArray[Any]) -> tuple[Ints, Ints, Ints]:
    """Count the voxels of each label pair of two flat images, in ascending order."""
    n_columns = int(pred.max(initial=0)) + 1
    n_codes = (int(ref.max(initial=0)) + 1) * n_columns
    if n_codes > _INT64_MAX:
        # combined codes of labels near the uint32 limit overflow int64: use ranks instead of labels
        ref_values, ref = np.unique(ref, return_inverse=True)
        pred_values, pred = np.unique(pred, return_inverse=True)
        rows, columns, counts = _count_pairs(ref, pred)
        return ref_values[rows].astype(np.int64), pred_values[columns].astype(np.int64), counts
    codes = ref.astype(np.int64)
    codes *= n_columns
    codes += pred
    if n_codes <= max(codes.size, _DENSE_CODES):
        dense = np.bincount(codes)
        found = np.flatnonzero(dense)
        counts = dense[found]
    else:
        found, counts = np.unique(codes, return_counts=True)
    return found // n_columns, found % n_columns, counts.astype(np.int64)


def _sizes(labels: Ints, n_voxels: Ints) -> tuple[Ints, Ints]:
    """Return the labels and sizes of the objects in one column of the table."""
    found, inverse = np.unique(labels, return_inverse=True)
    sizes = np.zeros(len(found), np.int64)
    np.add.at(sizes, inverse, n_voxels)
    is_object = found > 0
    return found[is_object], sizes[is_object]
