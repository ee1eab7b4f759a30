"""Repair of nuclei that are lost or merged in a frame but not in its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.resample import Spacing

Mask = NDArray[np.bool_]
Point = NDArray[np.float64]

_MERGED = 0.5  # a label that covers more than this fraction of a missing nucleus has absorbed it
_WHOLE = 0.25  # minimum size of each part after a split, as a fraction of the expected size


def moved(mask: Mask, shift_um: Sequence[float] | Point, *, spacing: Spacing) -> Mask:
    """Shift a mask (Z, Y, X) by (z, y, x) in µm, rounded to whole voxels.

    Voxels that leave the volume are dropped.
    """
    steps = np.rint(np.asarray(shift_um) / spacing).astype(int)
    out = np.zeros_like(mask)
    sides = [(max(s, 0), max(-s, 0), n) for s, n in zip(steps, mask.shape, strict=True)]
    if any(abs(s) >= n for s, n in zip(steps, mask.shape, strict=True)):
        return out
    target = tuple(slice(ahead, n - behind) for ahead, behind, n in sides)
    source = tuple(slice(behind, n - ahead) for ahead, behind, n in sides)
    out[target] = mask[source]
    return out


def put_back(
    labels: NDArray[np.integer],
    lacking: Mask,
    label: int,
    *,
    spacing: Spacing,
    expected: dict[int, Mask],
) -> str | None:
    """Restore a missing nucleus in a label image, in place.

    Parameters
    ----------
    labels
        Label image (Z, Y, X) of the frame, modified in place.
    lacking
        Expected mask (Z, Y, X) of the missing nucleus, from neighbouring frames.
    label
        Label for the missing nucleus.
    spacing
        Voxel size (z, y, x) in µm.
    expected
        Expected masks of the frame's other nuclei by label, where known.

    Returns
    -------
    str or None
        ``split`` if one label covers more than half of `lacking`: each voxel of that label goes to the nearer
        of the two expected centres. ``restored`` if more than half of `lacking` is background: the nucleus
        gets these background voxels. None, with `labels` unchanged, if neither repair is possible or if
        `lacking` touches the volume's border, where the nucleus may have left the field.
    """
    n_lacking = int(np.count_nonzero(lacking))
    if not n_lacking or _at_border(lacking):
        return None
    counts = np.bincount(labels[lacking], minlength=1)
    counts[0] = 0
    merged = int(counts.argmax())
    if counts[merged] > _MERGED * n_lacking and merged in expected and expected[merged].any():
        together = np.argwhere(labels == merged)
        mine, its = (np.argwhere(mask).mean(axis=0) for mask in (lacking, expected[merged]))
        nearer = _distance(together, mine, spacing) < _distance(together, its, spacing)
        if nearer.sum() < _WHOLE * n_lacking or (~nearer).sum() < _WHOLE * expected[merged].sum():
            return None
        labels[tuple(together[nearer].T)] = label
        return "split"
    free = lacking & (labels == 0)
    if free.sum() <= _MERGED * n_lacking:
        return None
    labels[free] = label
    return "restored"


def _at_border(mask: Mask) -> bool:
    return any(mask.take(place, axis=axis).any() for axis in range(mask.ndim) for place in (0, -1))


def _distance(voxels: NDArray[np.intp], centre: Point, spacing: Spacing) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.linalg.norm((voxels - centre) * spacing, axis=1)
    return distance
