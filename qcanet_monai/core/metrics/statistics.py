"""Confidence intervals of means over volumes, grouped by embryo."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000
LEVEL = 0.95


class Estimate(NamedTuple):
    """Mean of a metric over volumes, with its confidence interval.

    Attributes
    ----------
    n : int
        Number of volumes in which the metric is defined.
    mean, sd : float
        Mean and standard deviation (n - 1) over these volumes; NaN if there are too few.
    low, high : float
        Bounds of the 95 % interval of the mean; NaN for fewer than two embryos.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


def estimate(values: ArrayLike, embryos: ArrayLike, *, seed: int = 0) -> Estimate:
    """Estimate the mean over volumes, with a cluster-bootstrap percentile interval.

    Embryos are drawn with replacement, each with all of its volumes, because time points of one embryo are
    not independent (Efron and Tibshirani 1993, ch. 8 and 13).

    Parameters
    ----------
    values : array_like of float, shape (n,)
        One value per volume; NaN where undefined.
    embryos : array_like, shape (n,)
        Embryo of each volume.
    seed : int
        Seed of the bootstrap.
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
