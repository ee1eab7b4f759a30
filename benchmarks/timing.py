"""Figures of a benchmark with spread and target, and timers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from qcanet_monai.io import write_json


class Figure(NamedTuple):
    """Row of the table: median, minimum and maximum of a measurement, and target."""

    name: str
    value: float
    low: float
    high: float
    target: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """True if the median reaches the target."""
        return self.value <= self.target if self.at_most else self.value >= self.target

    def __str__(self) -> str:
        bound = "at most" if self.at_most else "at least"
        spread = f"({self.low:.6g} to {self.high:.6g})"
        holds = "yes" if self.holds else "NO"
        return f"| {self.name} | {self.value:.6g} {spread} | {bound} {self.target:g} | {holds} |"


def figure(name: str, values: Sequence[float], target: float, *, at_most: bool = False) -> Figure:
    """Summarise measurements as a figure."""
    return Figure(name, statistics.median(values), min(values), max(values), target, at_most)


def seconds(work: Callable[[], object]) -> float:
    """Time one call, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def short(work: Callable[[], object]) -> float:
    """Time short work: the median of nine calls, in seconds."""
    return statistics.median(seconds(work) for _ in range(9))


def ratios(slow: Callable[[], float], fast: Callable[[], float], rounds: int) -> list[float]:
    """Ratio of two functions that return seconds, measured in turn each round."""
    return [slow() / fast() for _ in range(rounds)]


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write a JSON list of ``{name, value, low, high, target, holds}``."""
    rows = []
    for one in figures:
        row = one._asdict()
        del row["at_most"]
        rows.append({**row, "holds": one.holds})
    write_json(path, rows)
