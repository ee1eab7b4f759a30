"""How sure a network is of its nuclei, from passes with dropout (Gal and Ghahramani 2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from qcanet_monai.errors import InputError

_Labels = TypeVar("_Labels", bound=NDArray[np.integer])

UNSURE = 0.75  # confidence below which most are no nuclei or badly outlined: docs/accuracy.md
_ROUNDING = 1e-9  # 0.07 of 100 is 7, of which binary fractions make a little more


def confidence_radius_um(
    centres_um: NDArray[np.floating], passes: Sequence[NDArray[np.floating]], *, share: float = 0.9
) -> NDArray[np.float64]:
    """Radius about each centre that holds as many of its peaks as a share of the passes.

    A peak is that of the centre nearest to it. The radius is the distance to the k-th nearest of a centre's
    own, where k is the share of the number of passes, rounded up: with 100 passes and a share of 0.9 to the
    90th (Ram et al. 2018, section 3.3, where those of a neighbour count too). A pass may have several peaks
    near a centre, and all of them count.

    Parameters
    ----------
    centres_um
        Centres (n, 3) found without dropout, (z, y, x) in µm.
    passes
        Peaks (m, 3) of each pass with dropout, likewise.
    share
        In (0, 1].

    Returns
    -------
    ndarray of float64, shape (n,)
        Radii in µm; inf where a centre has fewer than k peaks in all passes together.

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
    """Standard deviation of each voxel over passes that come one by one (Welford 1962).

    It holds two arrays of a pass's shape, however many passes there are.
    """

    def __init__(self) -> None:
        self._n = 0
        self._mean = np.zeros(0, np.float32)
        self._squares = self._mean

    def add(self, probability: NDArray[np.floating]) -> None:
        """Take in a pass.

        Parameters
        ----------
        probability
            Probabilities (Z, Y, X).

        Raises
        ------
        InputError
            If the pass is not of the shape of those before it.
        """
        values = probability.astype(np.float32, copy=False)
        if self._n == 0:
            self._mean, self._squares = np.zeros_like(values), np.zeros_like(values)
        if values.shape != self._mean.shape:
            raise InputError(
                f"expected a pass of shape {self._mean.shape}, got {values.shape}: "
                "start a new spread for another image"
            )
        self._n += 1
        from_old = values - self._mean
        self._mean += from_old / np.float32(self._n)
        from_old *= values - self._mean
        self._squares += from_old

    def sd(self) -> NDArray[np.float32]:
        """Population standard deviation (Z, Y, X) of the passes so far, float32.

        Raises
        ------
        InputError
            If there is no pass.
        """
        if self._n == 0:
            raise InputError("expected one pass or more, got none: add a pass first")
        return np.sqrt(self._squares / np.float32(self._n))


def most_uncertain(values: NDArray[np.floating], share: float) -> NDArray[np.bool_]:
    """Mark the share of highest values.

    Parameters
    ----------
    values
        Uncertainties (n,), as radii in µm; inf and NaN are higher than any other.
    share
        In [0, 1); so much of n is rounded to the nearest whole number, halves upwards.

    Returns
    -------
    ndarray of bool, shape (n,)
        Of equal values, the first are marked.

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
    """Leave labels out and number the others anew, in their order.

    Parameters
    ----------
    labels
        Label image (Z, Y, X), 0 background, 1..n without gaps.
    dropped
        Whether label i + 1 is left out, (n,).

    Returns
    -------
    ndarray of the labels' dtype, shape (Z, Y, X)
        0 background, 1..m without gaps.

    Raises
    ------
    InputError
        If there are more labels, or fewer, than entries that say which to drop.
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
