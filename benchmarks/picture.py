"""Plot of the figures' margins to their targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from benchmarks.timing import Figure

_HOLDS, _FAILS = "#2a7f62", "#c0392b"


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Draw margins as bars: value / target, or target / value for upper bounds."""
    mpl.rcParams["font.size"] = 9
    canvas = Canvas(figsize=(10, 0.45 * len(figures) + 1), layout="constrained")
    axes = canvas.subplots()
    for place, one in enumerate(reversed(figures)):
        ends = [_margin(one, value) for value in (one.low, one.value, one.high)]
        colour = _HOLDS if one.holds else _FAILS
        axes.barh(place, ends[1] - 1, left=1, color=colour, height=0.6)
        axes.plot([min(ends), max(ends)], [place, place], color="black", linewidth=1)
        value = f"{one.value:,.0f}" if one.value >= 1000 else f"{one.value:.4g}"
        axes.annotate(f" {value}", (max(*ends, 1), place), va="center")
    axes.set_yticks(range(len(figures)), [fill(one.name, 50) for one in reversed(figures)])
    axes.set_ylim(-0.6, len(figures) - 0.4)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("margin: 1 is the target, right of it\nbetter; lines span the measurements")
    axes.margins(x=0.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    canvas.savefig(path, dpi=110)


def _margin(one: Figure, value: float) -> float:
    if one.at_most:
        return (one.target + 1e-9) / max(value, 1e-9) if one.target else 1.0
    return value / one.target
