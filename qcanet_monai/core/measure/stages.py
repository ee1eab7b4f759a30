"""Cell stages of an embryo, how long each lasts, and whether its cells divide together."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcanet_monai.core.measure.nuclei import Table
from qcanet_monai.errors import InputError

STAGES: dict[str, tuple[int, float]] = {
    "1": (1, 1),
    "2": (2, 2),
    "3": (3, 3),
    "4": (4, 4),
    "5-7": (5, 7),
    "8": (8, 8),
    "9-15": (9, 15),
    "16": (16, 16),
    "17-31": (17, 31),
    "32+": (32, math.inf),
}
"""Fewest and most cells of each stage (Tokuoka et al. 2020, fig. 7)."""

REACHED_H = 1.0
"""Hours for which a stage lasts at least where it counts as reached (Tokuoka et al. 2020, Methods)."""

ASYNCHRONOUS_H = 5.8
"""A longer 3-cell stage marks an embryo whose cells do not divide together."""

_IN_BETWEEN = ("3", "5-7", "9-15", "17-31")


class Synchrony(NamedTuple):
    """Whether an embryo's cells divide together.

    Attributes
    ----------
    in_between_share : float
        Of the time from the 2-cell to the 31-cell stage, the share outside of the 2-, 4-, 8- and 16-cell
        stages: 0 where all cells divide at once. NaN without such time.
    three_cell_h : float
        Hours of the 3-cell stage.
    asynchronous : bool
        Whether these are more than 5.8.
    """

    in_between_share: float
    three_cell_h: float
    asynchronous: bool


def stage_of(n_nuclei: ArrayLike) -> NDArray[np.str_]:
    """Names of the stages for numbers of nuclei, any shape; empty for no nucleus.

    Examples
    --------
    >>> stage_of([0, 1, 6, 40]).tolist()
    ['', '1', '5-7', '32+']
    """
    numbers = np.asarray(n_nuclei)
    names = np.full(numbers.shape, "", dtype="<U5")
    for name, (fewest, most) in STAGES.items():
        names[(numbers >= fewest) & (numbers <= most)] = name
    return names


def stage_durations(n_nuclei: ArrayLike, times_h: ArrayLike, *, interval_h: float) -> Table:
    """How long each stage lasts.

    A time point stands for the interval that begins with it. Time points that are missing count for no
    stage, and do not break the one around them.

    Parameters
    ----------
    n_nuclei
        Nuclei per time point (T,).
    times_h
        Hours of each time point (T,), ascending.
    interval_h
        Hours between two successive time points.

    Returns
    -------
    dict of arrays, one entry per stage in the order of `STAGES`
        ``stage``; ``first_h``, its first time point, NaN where it has none; ``duration_h``, all its time
        points together; ``longest_h``, the most of them without another stage between; ``reached``, 1 where
        that is an hour or more (Tokuoka et al. 2020, Methods).

    Raises
    ------
    InputError
        If the interval is not positive, the lengths differ, or times do not ascend.
    """
    numbers, times = np.asarray(n_nuclei), np.asarray(times_h, float)
    if not interval_h > 0:
        raise InputError(f"expected a time between frames above 0, got {interval_h} hours")
    if numbers.shape != times.shape or numbers.ndim != 1 or (np.diff(times) <= 0).any():
        raise InputError("expected a number of nuclei for each of several ascending times")
    stages = stage_of(numbers)
    ends = np.flatnonzero(np.r_[stages[1:] != stages[:-1], True]) + 1 if len(stages) else np.zeros(0, int)
    starts = np.r_[0, ends[:-1]].astype(int)
    rows = []
    for name in STAGES:
        mine = stages == name
        runs = [int(end - start) for start, end in zip(starts, ends, strict=False) if mine[start]]
        longest = max(runs, default=0) * interval_h
        first = float(times[mine][0]) if mine.any() else math.nan
        # a minute less than an hour is rounding of the interval, no shorter stage
        rows.append((name, first, int(mine.sum()) * interval_h, longest, int(longest > REACHED_H - 1 / 60)))
    names, first_h, duration_h, longest_h, reached = zip(*rows, strict=True)
    return {
        "stage": np.array(names),
        "first_h": np.array(first_h),
        "duration_h": np.array(duration_h, float),
        "longest_h": np.array(longest_h, float),
        "reached": np.array(reached, np.int64),
    }


def synchrony(durations: Table) -> Synchrony:
    """Synchrony of divisions from the table of `stage_durations`.

    Long 2-, 4-, 8- and 16-cell stages and short ones in between are those of cells that divide together
    (Tokuoka et al. 2020, fig. 7).
    """
    hours = dict(zip(durations["stage"].tolist(), durations["duration_h"].astype(float), strict=True))
    between = sum(hours[name] for name in _IN_BETWEEN)
    counted = between + sum(hours[name] for name in ("2", "4", "8", "16"))
    share = float(between / counted) if counted else math.nan
    return Synchrony(share, float(hours["3"]), bool(hours["3"] > ASYNCHRONOUS_H))
