"""Uncertainty of nuclei from Monte Carlo dropout (Gal and Ghahramani 2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from qcanet_monai.errors import InputError

_Labels = TypeVar("_Labels", bound=NDArray[np.integer])

UNSURE = 0.75  # most nuclei of lower confidence are false or badly outlined: docs/accuracy.md
_ROUNDING = 1e-9  # 0.07 * 100 exceeds 7 in binary floating point


def confidence_radius_um(
    centres_um: NDArray[np.floating], passes: Sequence[NDArray[np.floating]], *, share: float = 0.9
) -> NDArray[np.float64]:
    """Compute the radius around each centre that contains a share of its peaks.

    Each peak belongs to the nearest centre. The radius is the distance to the k-th nearest peak of the
    centre, where k = share * number of passes, rounded up: the 90th for 100 passes and a share of 0.9 (Ram et
    al. 2018, section 3.3, who also count peaks of neighbouring centres). Several peaks of one pass all count.

    Parameters
    ----------
    centres_um
        Centres (n, 3) found without dropout, (z, y, x) in µm.
    passes
        Peaks (m, 3) of each dropout pass, (z, y, x) in µm.
    share
        Share of the passes, in (0, 1].

    Returns
    -------
    ndarray of float64, shape (n,)
        Radii in µm; inf for centres with fewer than k peaks in all passes.

    Raises
    ------
    InputError
        If there is no pass, or the share is outside (0, 1].
    """
    if not len(passes) or not 0 < share <= 1:
        raise InputError(
            f"expected one pass or more and a share in (0, 1], got {len(passes)} and {share}: "
            "give e.g. 20 passes and 0.9"
        )
    centres = np.asarray(centres_um, float).reshape(-1, 3)
    peaks = np.concatenate([np.asarray(one, float).reshape(-1, 3) for one in passes])
    k = math.ceil(share * len(passes) - _ROUNDING)
    radii = np.full(len(centres), np.inf)
    if len(peaks) and len(centres):
        distance, nearest = cKDTree(centres).query(peaks)
        ascending = distance[np.lexsort((distance, nearest))]
        own = np.bincount(nearest, minlength=len(centres))
        known = own >= k
        radii[known] = ascending[(np.cumsum(own) - own + k - 1)[known]]
    return radii


class Spread:
    """Running standard deviation of each voxel over dropout passes (Welford 1962).

    Stores two arrays of the shape of a pass, for any number of passes.
    """

    def __init__(self) -> None:
        self._n = 0
        self._mean = np.zeros(0, np.float32)
        self._squares = self._mean

    def add(self, probability: NDArray[np.floating]) -> None:
        """Add the probabilities (Z, Y, X) of one pass; `InputError` if shapes differ."""
        values = probability.astype(np.float32, copy=False)
        if self._n == 0:
            self._mean, self._squares = np.zeros_like(values), np.zeros_like(values)
        if values.shape != self._mean.shape:
            raise InputError(
                f"expected a pass of shape {self._mean.shape}, got {values.shape}: "
                "use a new Spread for each image"
            )
        self._n += 1
        from_old = values - self._mean
        self._mean += from_old / np.float32(self._n)
        from_old *= values - self._mean
        self._squares += from_old

    def sd(self) -> NDArray[np.float32]:
        """Return the float32 population SD (Z, Y, X) so far; `InputError` without a pass."""
        if self._n == 0:
            raise InputError("expected one pass or more, got none: add a pass first")
        return np.sqrt(self._squares / np.float32(self._n))


def most_uncertain(values: NDArray[np.floating], share: float) -> NDArray[np.bool_]:
    """Mark the given share of highest values, bool (n,); ties mark the first.

    Parameters
    ----------
    values
        Uncertainties (n,), such as radii in µm; inf and NaN rank highest.
    share
        Share to mark, in [0, 1). The number marked is rounded to the nearest integer, halves up.

    Raises
    ------
    InputError
        If the share is outside [0, 1).
    """
    if not 0 <= share < 1:
        raise InputError(f"expected a share in [0, 1), got {share}: give e.g. 0.1 for a tenth")
    falling = np.argsort(-np.where(np.isnan(values), np.inf, values), kind="stable")
    marked = np.zeros(len(values), bool)
    marked[falling[: math.floor(share * len(values) + 0.5 + _ROUNDING)]] = True
    return marked


def drop_labels(labels: _Labels, dropped: NDArray[np.bool_]) -> _Labels:
    """Remove labels and renumber the others 1..m in their order.

    Parameters
    ----------
    labels
        Label image (Z, Y, X), 0 is background, 1..n without gaps.
    dropped
        Boolean (n,), True at index i to remove label i + 1.

    Raises
    ------
    InputError
        If `dropped` does not have one entry per label.
    """
    n = int(labels.max(initial=0))
    if dropped.shape != (n,):
        raise InputError(
            f"expected one entry for each of the {n} labels, got shape {dropped.shape}: "
            "give the entries of this label image"
        )
    numbers = np.concatenate([[0], np.where(dropped, 0, np.cumsum(~dropped))])
    kept: _Labels = numbers.astype(labels.dtype)[labels]
    return kept
