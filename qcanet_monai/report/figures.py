"""Figures of embryos over time, after figs 5 to 8 of Tokuoka et al. (2020)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qcanet_monai.core.measure.stages import STAGES
from qcanet_monai.core.metrics.tracks import Track
from qcanet_monai.io import replacing
from qcanet_monai.timelapse.criteria import Embryo, means_over_embryos

_WIDTH = 8.0  # inches
_BANDS = {
    "mean_volume_um3": "volume (µm³)",
    "mean_surface_mesh_um2": "surface (µm²)",
    "mean_specific_surface_mesh_per_um": "specific surface (1/µm)",
}
_MOST_NAMED = 12  # embryos; more names would hide the lines

mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "qcanet", "font.size": 9, "axes.spines.top": False}
mpl.rcParams |= {"axes.spines.right": False, "legend.frameon": False}


def nuclei_over_time(embryos: Sequence[Embryo]) -> Figure:
    """Plot the number of nuclei over time (fig. 5a)."""
    figure, (axes,) = new_panels(1, 3.0)
    for embryo in embryos:
        axes.step(_hours(embryo), _column(embryo, "n_nuclei"), where="post", label=embryo.name, lw=1.2)
    _over_embryos(axes, embryos, "n_nuclei")
    axes.set(xlabel="hours", ylabel="nuclei", ylim=(0, None))
    _name(axes, embryos)
    return figure


def sizes_over_time(embryos: Sequence[Embryo]) -> Figure:
    """Plot mean volume, surface and specific surface of the nuclei (fig. 5b to d).

    The band is the standard deviation over nuclei for one embryo, over embryos for several.
    """
    figure, panels = new_panels(3, 2.0)
    for axes, (column, title) in zip(panels, _BANDS.items(), strict=True):
        for embryo in embryos:
            hours, mean = _hours(embryo), _column(embryo, column)
            (line,) = axes.plot(hours, mean, lw=1.2, label=embryo.name)
            if len(embryos) == 1:
                band(axes, hours, mean, _column(embryo, column.replace("mean_", "sd_", 1)), line.get_color())
        _over_embryos(axes, embryos, column)
        axes.set(ylabel=title, ylim=(0, None))
    panels[-1].set_xlabel("hours")
    _name(panels[0], embryos)
    return figure


def stage_bars(embryos: Sequence[Embryo]) -> Figure:
    """Plot the stages of each embryo as bars over time (fig. 7)."""
    figure, (axes,) = new_panels(1, max(2.4, 1.0 + 0.35 * len(embryos)))
    colours = dict(zip(STAGES, mpl.colormaps["turbo"](np.linspace(0.05, 0.95, len(STAGES))), strict=True))
    for row, embryo in enumerate(embryos):
        hours, stages = _hours(embryo), [point["stage"] for point in embryo.timepoints]
        step = float(np.min(np.diff(hours))) if len(hours) > 1 else 1.0
        begins = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
        for begin, end in zip(begins, [*begins[1:], len(stages)], strict=True):
            if stages[begin]:
                width = hours[end - 1] + step - hours[begin]
                axes.barh(row, width, left=hours[begin], color=colours[stages[begin]], height=0.6, lw=0)
    for name, colour in colours.items():
        axes.bar(0, 0, color=colour, label=name)
    axes.set(xlabel="hours", yticks=range(len(embryos)), yticklabels=[one.name for one in embryos])
    axes.invert_yaxis()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title="cells", fontsize=8)
    return figure


def centroid_clouds(embryo: Embryo) -> Figure:
    """Plot centroids of all frames in three projections, coloured by time (fig. 6)."""
    figure, panels = new_panels(1, 2.8, columns=3)
    points = [
        np.column_stack([np.full(len(c), h), c])
        for h, c in zip(_hours(embryo), embryo.centroids_um, strict=True)
    ]
    hour, z, y, x = (np.concatenate(points) if points else np.zeros((0, 4))).T
    for axes, (across, up, names) in zip(panels, ((x, y, "xy"), (x, z, "xz"), (y, z, "yz")), strict=True):
        drawn = axes.scatter(across, up, c=hour, cmap="turbo", s=4, lw=0)
        axes.set(xlabel=f"{names[0]} (µm)", ylabel=f"{names[1]} (µm)", aspect="equal")
        axes.invert_yaxis()
    figure.colorbar(drawn, ax=panels, label="hours", shrink=0.8)
    return figure


def inner_and_outer(embryos: Sequence[Embryo]) -> Figure:
    """Plot the numbers of inner and outer cells, from 16 cells on (fig. 8)."""
    figure, (axes,) = new_panels(1, 3.0)
    for embryo in embryos:
        (line,) = axes.plot(_hours(embryo), _column(embryo, "n_outer"), lw=1.2, label=f"{embryo.name}, outer")
        inner = _column(embryo, "n_inner")
        axes.plot(_hours(embryo), inner, "--", color=line.get_color(), lw=1.2, label=f"{embryo.name}, inner")
    if not any(np.isfinite(_column(embryo, "n_outer")).any() for embryo in embryos):
        axes.text(0.5, 0.5, "no time point of 16 cells or more", ha="center", transform=axes.transAxes)
    axes.set(xlabel="hours", ylabel="cells", ylim=(0, None))
    _name(axes, embryos)
    return figure


def lineage_tree(
    tracks: Sequence[Track], hours: Sequence[float], repaired: Mapping[int, Sequence[int]]
) -> Figure:
    """Plot tracks over time, linked to their mothers; dots mark repaired frames."""
    figure, (axes,) = new_panels(1, 3.6)
    places = _places(tracks)
    last = {track.label: track for track in tracks}
    for track in tracks:
        place = places[track.label]
        mother = last.get(track.parent)
        begin = hours[track.begin]
        axes.plot([place, place], [begin, hours[track.end]], color="0.2", lw=1, solid_capstyle="butt")
        if mother:
            axes.plot([places[mother.label], place], [hours[mother.end], begin], color="0.5", lw=0.8)
        for frame in repaired.get(track.label, ()):
            axes.plot(place, hours[frame], "o", color="tab:red", ms=3)
    axes.set(ylabel="hours", xticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.invert_yaxis()
    return figure


def _places(tracks: Sequence[Track]) -> dict[int, float]:
    """Place leaves side by side and each mother at the mean of her daughters."""
    daughters: dict[int, list[int]] = {}
    for track in tracks:
        daughters.setdefault(track.parent, []).append(track.label)
    places: dict[int, float] = {}
    free = 0.0
    todo = [(label, False) for label in reversed(daughters.get(0, []))]
    while todo:
        label, seen = todo.pop()
        below = daughters.get(label, [])
        if below and not seen:
            todo += [(label, True), *((one, False) for one in reversed(below))]
        elif below:
            places[label] = float(np.mean([places[one] for one in below]))
        else:
            places[label], free = free, free + 1
    return places


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure as SVG and PNG; `path` has no suffix."""
    for suffix in (".svg", ".png"):
        with replacing(path.with_name(path.name + suffix)) as temporary:
            figure.savefig(temporary, dpi=150, metadata={"Date": None} if suffix == ".svg" else None)


def new_panels(rows: int, height: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Create a figure of the report's width with panels of `height` inches."""
    figure = Figure(figsize=(_WIDTH, rows * height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=columns == 1)
    return figure, list(panels.ravel())


def _over_embryos(axes: Axes, embryos: Sequence[Embryo], column: str) -> None:
    """Plot mean and spread over embryos, if there are several."""
    if len(embryos) < 2:
        return
    rows = means_over_embryos([row for embryo in embryos for row in embryo.timepoints])
    hours, mean, spread = (
        np.array([row[name] for row in rows], float)
        for name in ("time_h", f"mean_over_embryos_{column}", f"sd_over_embryos_{column}")
    )
    axes.plot(hours, mean, color="black", lw=1.6, label="mean over embryos")
    band(axes, hours, mean, spread, "black")


def band(axes: Axes, hours: np.ndarray, mean: np.ndarray, spread: np.ndarray, colour: Any) -> None:
    """Shade `mean` ± `spread`, except where `spread` is NaN."""
    low, high = mean - np.nan_to_num(spread), mean + np.nan_to_num(spread)
    axes.fill_between(hours, low, high, color=colour, alpha=0.2, lw=0)


def _name(axes: Axes, embryos: Sequence[Embryo]) -> None:
    if len(embryos) <= _MOST_NAMED:
        axes.legend(fontsize=8)


def _hours(embryo: Embryo) -> np.ndarray:
    return _column(embryo, "time_h")


def _column(embryo: Embryo, name: str) -> np.ndarray:
    return np.array([row[name] for row in embryo.timepoints], float)


OF_ALL: Mapping[str, tuple[str, Callable[[Sequence[Embryo]], Figure]]] = {
    "nuclei": ("Number of nuclei", nuclei_over_time),
    "sizes": (
        "Volume, surface and specific surface, with spread over nuclei, or over several embryos",
        sizes_over_time,
    ),
    "stages": ("Stages", stage_bars),
    "inner_outer": ("Inner (dashed) and outer cells, from 16 cells on", inner_and_outer),
}
"""Figures of all embryos together: name, title and plotting function."""
