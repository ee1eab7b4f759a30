"""Simulated recordings, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.simulator.camera import record
from qcanet_monai.simulator.cells import cells
from qcanet_monai.simulator.lineage import Embryo
from qcanet_monai.simulator.nuclei import Population
from qcanet_monai.simulator.parameters import Spacing
from qcanet_monai.simulator.render import Scene, illuminated, render
from qcanet_monai.simulator.settings import Recording, Seed, Shape, Simulation, shipped, stream
from qcanet_monai.simulator.shapes import Grid
from qcanet_monai.simulator.spindle import Spindle
from qcanet_monai.simulator.tissue import tissue

_BALANCE = 0.7  # exponent of a single frame's random time: below 1 favours late stages, with many nuclei


@dataclass(frozen=True)
class Frame:
    """Image (Z, Y, X) of one time point, its ground truth and its spacing in µm.

    `instances` holds labels 1..n, `nuclei` is 0/255, `centres` is 255 in a ball of 33 voxels (diameter 5) at
    each centroid `centres_voxel` (n, 3). `height` is positive in nuclei and 0 on their outlines between
    voxels: the light of a nucleus relative to its peak, minus `optics.outline`. `numbers[i]` is the track of
    label i + 1 and `parents[i]` its parent track, 0 for none; a division starts two new tracks.
    """

    image: NDArray[np.uint16]
    instances: NDArray[np.uint16]
    nuclei: NDArray[np.uint8]
    centres: NDArray[np.uint8]
    centres_voxel: NDArray[np.float64]
    height: NDArray[np.float32]
    spacing: Spacing
    numbers: list[int]
    parents: list[int]

    @property
    def tracked(self) -> NDArray[np.uint16]:
        """Instances (Z, Y, X), uint16, labelled by track identity."""
        return np.array([0, *self.numbers], np.uint16)[self.instances]


def simulate_series(
    seed: int | Seed,
    *,
    timepoints: int,
    spacing: Spacing | None = None,
    generations: float | None = None,
    settings: Simulation | None = None,
) -> Iterator[Frame]:
    """Simulate one embryo, piece of tissue or spindle over time.

    Parameters
    ----------
    seed, settings
        Seed of every voxel, and distributions of the parameters (the shipped ones if None).
    timepoints
        Number of frames, spread evenly from the view's `first` to its `last` generation.
    spacing
        Voxel size (z, y, x) in µm; drawn with the view if None.
    generations
        Time of the last frame in generations, instead of the view's `last`; 6.6 gives 60 to 75 nuclei.
        A spindle is full grown at the view's `last` in any case.

    Yields
    ------
    Frame
        Time points in order. Tissues and cells do not grow: their frames differ only in noise.
    """
    seed = (seed,) if isinstance(seed, int) else tuple(seed)
    recording = (settings or shipped()).draw(seed)
    last = recording.view.last if generations is None else generations
    times = np.linspace(min(recording.view.first, last), last, timepoints)
    yield from _frames(recording, spacing or recording.view.spacing, times, seed)


def simulate_frame(
    seed: int | Seed,
    *,
    spacing: Spacing | None = None,
    shape: Shape | None = None,
    settings: Simulation | None = None,
) -> Frame:
    """Simulate one time point, drawn between `first` and `last` of the view.

    Parameters
    ----------
    seed, spacing, settings
        As for :func:`simulate_series`.
    shape
        Number of voxels (Z, Y, X); from the view's extent if None.
    """
    seed = (seed,) if isinstance(seed, int) else tuple(seed)
    recording = (settings or shipped()).draw(seed)
    view = recording.view
    part = stream(seed, "moment").random() ** _BALANCE
    time = view.first + max(0.0, view.last - view.first) * part
    return next(_frames(recording, spacing or view.spacing, np.array([time]), seed, shape))


def _frames(
    recording: Recording,
    spacing: Spacing,
    times: NDArray[np.float64],
    seed: Seed,
    shape: Shape | None = None,
) -> Iterator[Frame]:
    view, _, optics, camera = recording
    shape = shape or _shape(recording, spacing)
    shift = np.array([view.shift_z_um, view.shift_y_um, view.shift_x_um])
    extent = np.array(shape) * spacing
    steps = stream(seed, "drift").normal(0, optics.drift_um, (shape[0], 2))
    drift = np.cumsum(steps, axis=0)
    grid = Grid(shape, spacing, (extent - spacing) / 2 + shift, drift - drift.mean(0))
    scenes = _scenes(recording, grid, times, seed)
    illumination = illuminated(shape, optics, stream(seed, "illumination"))
    for index, (time, (scene, parents)) in enumerate(zip(times, scenes, strict=True)):
        bleached = np.float32(np.exp(-optics.bleaching * time))
        light = scene.light * bleached * illumination
        if view.oval:
            scene = scene.within(_oval(shape))
        image = record(light, camera, stream((*seed, index), "camera"), seed)
        centres = centre_balls(scene.centres_voxel, shape)
        yield Frame(
            image=np.where(_oval(shape), image, 0).astype(np.uint16) if view.oval else image,
            instances=scene.instances,
            nuclei=np.where(scene.instances > 0, np.uint8(255), np.uint8(0)),
            centres=np.where(_oval(shape), centres, 0).astype(np.uint8) if view.oval else centres,
            centres_voxel=scene.centres_voxel,
            height=scene.height,
            spacing=spacing,
            numbers=scene.numbers,
            parents=[parents.get(number, 0) for number in scene.numbers],
        )


def _scenes(
    recording: Recording, grid: Grid, times: NDArray[np.float64], seed: Seed
) -> Iterator[tuple[Scene, dict[int, int]]]:
    """Yield the scene of each time and the parent of each nucleus."""
    _, growth, optics, _ = recording
    if growth.kind == "cells":
        yield from ((still, {}) for still in [cells(grid, growth, optics, seed)] for _ in times)
        return
    course = _course(recording, grid, seed)
    for index, time in enumerate(times):
        population = course(float(time))
        parents = {nucleus.number: nucleus.parent for nucleus in population.nuclei}
        yield render(population, grid, growth, optics, (*seed, index)), parents


def _course(recording: Recording, grid: Grid, seed: Seed) -> Callable[[float], Population]:
    """Return a function from time in generations to the objects to render."""
    view, growth = recording.view, recording.growth
    if growth.kind == "embryo":
        return Embryo(growth, seed).at
    if growth.kind == "spindle":
        spindle, span = Spindle(growth, seed), view.last - view.first
        return lambda time: spindle.at(min(1.0, (time - view.first) / span) if span > 0 else 1.0)
    shift = np.abs([view.shift_z_um, view.shift_y_um, view.shift_x_um])
    still = tissue(growth, np.array(grid.shape) * grid.spacing + 2 * shift, seed)
    return lambda _: still


def _shape(recording: Recording, spacing: Spacing) -> Shape:
    """Return the shape (Z, Y, X) of the view's field, at most `most` voxels per axis."""
    view = recording.view
    extent = (view.depth_um, view.width_um, view.width_um)
    nz, ny, nx = (int(np.clip(round(e / s), 4, view.most)) for e, s in zip(extent, spacing, strict=True))
    return nz, ny, nx


def _oval(shape: Shape) -> NDArray[np.bool_]:
    """Return the mask (1, Y, X) of an ellipse with axes of 96 % of the field."""
    y, x = (np.linspace(-1, 1, n) / 0.96 for n in shape[1:])
    inside: NDArray[np.bool_] = y[None, :, None] ** 2 + x**2 <= 1
    return inside


def centre_balls(centres_voxel: NDArray[np.float64], shape: Shape, *, diameter: int = 5) -> NDArray[np.uint8]:
    """Draw 0/255 balls (Z, Y, X), `diameter` voxels across, at centres (n, 3)."""
    return balls(np.rint(centres_voxel), shape, spacing=(1.0, 1.0, 1.0), radius_um=diameter // 2)


def balls(
    centres_voxel: NDArray[np.float64], shape: Shape, *, spacing: Spacing, radius_um: float
) -> NDArray[np.uint8]:
    """Draw 0/255 balls (Z, Y, X) at centres (n, 3) in voxels, of at least one voxel."""
    out = np.zeros(shape, np.uint8)
    reach = [int(radius_um / s) + 1 for s in spacing]
    offsets = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3)
    for centre in centres_voxel:
        middle = np.rint(centre).astype(int)
        distance = np.linalg.norm((middle + offsets - centre) * spacing, axis=1)
        voxels = middle + offsets[(distance <= radius_um) | ~offsets.any(1)]
        voxels = voxels[np.all((voxels >= 0) & (voxels < shape), axis=1)]
        out[tuple(voxels.T)] = 255
    return out
