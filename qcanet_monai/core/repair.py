"""Nuclei that a frame lacks and its neighbours have: put back, or parted from what they were merged with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.resample import Spacing

Mask = NDArray[np.bool_]
Point = NDArray[np.float64]

_MERGED = 0.5  # of the lacking nucleus's voxels: whose label holds more has swallowed it
_WHOLE = 0.25  # of what was expected: with fewer voxels there is nothing to part


def moved(mask: Mask, shift_um: Sequence[float] | Point, *, spacing: Spacing) -> Mask:
    """A mask (Z, Y, X) moved by a shift (z, y, x) in µm, in whole voxels; what leaves the volume is lost."""
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
    """Give a lacking nucleus a label of its own, in place.

    Parameters
    ----------
    labels
        Label image (Z, Y, X) of the frame that lacks it.
    lacking
        Where it must be (Z, Y, X), by the frames around.
    label
        Its label there.
    spacing
        Voxel size (z, y, x) in µm.
    expected
        Where the frame's other nuclei must be, by their labels, as far as it is known.

    Returns
    -------
    str or None
        ``split`` where a label held more than half of it: each of that one's voxels goes to the nearer of
        the two expected centres. ``restored`` where there was background: it gets what is free of the mask.
        None where neither is possible, or where it touches the volume's border, beyond which it may have
        been; the labels are as they were then.
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
