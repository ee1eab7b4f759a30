"""How far a mean over volumes can be trusted, where volumes of one embryo are alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A mean with its spread and its confidence interval.

    Attributes
    ----------
    n : int
        Volumes in which the value is defined.
    mean, sd : float
        Over these volumes; the spread with n - 1. NaN where there are too few.
    low, high : float
        Bounds of the 95 % interval of the mean; NaN for volumes of a single embryo.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


def estimate(values: ArrayLike, embryos: ArrayLike, *, seed: int = 0) -> Estimate:
    """Mean over volumes, with a percentile interval by the cluster bootstrap.

    Embryos are drawn with replacement, each with all of its volumes: their time points are no independent
    observations (Efron and Tibshirani 1993, ch. 8 and 13).

    Parameters
    ----------
    values : array_like of float, shape (n,)
        A value per volume; NaN where it is undefined.
    embryos : array_like, shape (n,)
        Which embryo each volume shows.
    seed : int
        Fixes what is drawn.
    """
    known = np.asarray(values, float)
    defined = ~np.isnan(known)
    known, owners = known[defined], np.asarray(embryos)[defined]
    n = len(known)
    if n == 0:
        return Estimate(0, *[np.nan] * 4)
    mean, sd = float(known.mean()), float(known.std(ddof=1)) if n > 1 else np.nan
    names, owner = np.unique(owners, return_inverse=True)
    if len(names) < 2:
        return Estimate(n, mean, sd, np.nan, np.nan)
    sums, counts = np.bincount(owner, known), np.bincount(owner)
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(n, mean, sd, float(low), float(high))
