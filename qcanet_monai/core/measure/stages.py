"""Cell stages of an embryo: durations and synchrony of cell divisions."""

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
"""Minimum and maximum number of cells of each stage (Tokuoka et al. 2020, fig. 7)."""

REACHED_H = 1.0
"""Minimum duration in hours of a stage that counts as reached (Tokuoka et al. 2020, Methods)."""

ASYNCHRONOUS_H = 5.8
"""Maximum duration in hours of the 3-cell stage of an embryo whose cells divide synchronously."""

_IN_BETWEEN = ("3", "5-7", "9-15", "17-31")


class Synchrony(NamedTuple):
    """Synchrony of the cell divisions of an embryo.

    Attributes
    ----------
    in_between_share : float
        Fraction of the time from the 2-cell to the 31-cell stage spent outside the 2-, 4-, 8- and 16-cell
        stages: 0 if all cells divide at once. NaN without such time.
    three_cell_h : float
        Duration of the 3-cell stage in hours.
    asynchronous : bool
        True if the 3-cell stage exceeds 5.8 hours.
    """

    in_between_share: float
    three_cell_h: float
    asynchronous: bool


def stage_of(n_nuclei: ArrayLike) -> NDArray[np.str_]:
    """Return the stage name of each number of nuclei (any shape); '' for no nucleus.

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


def stage_durations(n_nuclei: ArrayLike, times_h: ArrayLike, *, interval_h: ArrayLike) -> Table:
    """Compute the duration of each cell stage.

    A time point represents the interval that begins with it. Missing time points count for no stage and do
    not interrupt one.

    Parameters
    ----------
    n_nuclei
        Number of nuclei per time point (T,).
    times_h
        Time points (T,) in hours, ascending.
    interval_h
        Hours that a time point represents, or one number per time point (T,).

    Returns
    -------
    dict of arrays, one entry per stage in the order of `STAGES`
        ``stage``; ``first_h``, the first time point, NaN if there is none; ``duration_h``, the total
        duration; ``longest_h``, the longest uninterrupted duration; ``reached``, 1 if ``longest_h`` is an
        hour or more (Tokuoka et al. 2020, Methods).

    Raises
    ------
    InputError
        If the interval is not positive, the lengths differ, or the times do not ascend.
    """
    numbers, times = np.asarray(n_nuclei), np.asarray(times_h, float)
    if not (np.asarray(interval_h) > 0).all():
        raise InputError(f"expected a time interval above 0 hours, got {interval_h!r}")
    if numbers.shape != times.shape or numbers.ndim != 1 or (np.diff(times) <= 0).any():
        raise InputError("expected one number of nuclei per time point, in ascending order of time")
    stages, lengths = stage_of(numbers), np.broadcast_to(np.asarray(interval_h, float), numbers.shape)
    ends = np.flatnonzero(np.r_[stages[1:] != stages[:-1], True]) + 1 if len(stages) else np.zeros(0, int)
    starts = np.r_[0, ends[:-1]].astype(int)
    rows = []
    for name in STAGES:
        mine = stages == name
        runs = [
            float(lengths[start:end].sum()) for start, end in zip(starts, ends, strict=False) if mine[start]
        ]
        longest = max(runs, default=0.0)
        first = float(times[mine][0]) if mine.any() else math.nan
        # one minute of tolerance for a rounded interval
        rows.append((name, first, float(lengths[mine].sum()), longest, int(longest > REACHED_H - 1 / 60)))
    names, first_h, duration_h, longest_h, reached = zip(*rows, strict=True)
    return {
        "stage": np.array(names),
        "first_h": np.array(first_h),
        "duration_h": np.array(duration_h, float),
        "longest_h": np.array(longest_h, float),
        "reached": np.array(reached, np.int64),
    }


def synchrony(durations: Table) -> Synchrony:
    """Measure division synchrony from the table of `stage_durations`.

    Cells that divide together give long 2-, 4-, 8- and 16-cell stages and short stages between (Tokuoka et
    al. 2020, fig. 7).
    """
    hours = dict(zip(durations["stage"].tolist(), durations["duration_h"].astype(float), strict=True))
    between = sum(hours[name] for name in _IN_BETWEEN)
    counted = between + sum(hours[name] for name in ("2", "4", "8", "16"))
    share = float(between / counted) if counted else math.nan
    return Synchrony(share, float(hours["3"]), bool(hours["3"] > ASYNCHRONOUS_H))
