"""Figures of a benchmark: what was measured, how it spread, and whether it reaches its target."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from qcanet_monai.io import write_json


class Figure(NamedTuple):
    """A row of the table: median, least and greatest of its measurements, and what it is held to."""

    name: str
    value: float
    low: float
    high: float
    target: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the median reaches the target."""
        return self.value <= self.target if self.at_most else self.value >= self.target

    def __str__(self) -> str:
        bound = "at most" if self.at_most else "at least"
        spread = f"({self.low:.6g} to {self.high:.6g})"
        holds = "yes" if self.holds else "NO"
        return f"| {self.name} | {self.value:.6g} {spread} | {bound} {self.target:g} | {holds} |"


def figure(name: str, values: Sequence[float], target: float, *, at_most: bool = False) -> Figure:
    """The figure of some measurements."""
    return Figure(name, statistics.median(values), min(values), max(values), target, at_most)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes once."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def short(work: Callable[[], object]) -> float:
    """Seconds of work of milliseconds: the median of a few times."""
    return statistics.median(seconds(work) for _ in range(9))


def ratios(slow: Callable[[], float], fast: Callable[[], float], rounds: int) -> list[float]:
    """How many times faster, each round measured one after the other; both give their seconds."""
    return [slow() / fast() for _ in range(rounds)]


def write(figures: Sequence[Figure], path: Path) -> None:
    """A JSON list of ``{name, value, low, high, target, holds}``."""
    rows = []
    for one in figures:
        row = one._asdict()
        del row["at_most"]
        rows.append({**row, "holds": one.holds})
    write_json(path, rows)
