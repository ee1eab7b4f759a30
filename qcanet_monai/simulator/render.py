"""Rendering of nuclei: stain, blur and ground-truth outlines.

Nuclei are drawn on the camera's voxel grid: the axial blur exceeds a slice, so a finer grid gains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.simulator.nuclei import Nucleus, Population
from qcanet_monai.simulator.parameters import Growth, Optics, Spacing
from qcanet_monai.simulator.settings import Seed, Shape, stream
from qcanet_monai.simulator.shapes import Float, Grid, chromatin, depth_um

VISIBLE = 0.05  # nuclei with a smaller fraction in the field are not labelled: only their blur reaches in
_FINEST = 0.35  # narrower blurs, in voxels, are skipped: the grid would not show them


@dataclass(frozen=True)
class Scene:
    """Intensity of one time point before the camera, and its ground truth.

    `light` (Z, Y, X) is relative to a typical interphase nucleus. `instances` (Z, Y, X) holds labels 1..n,
    `centres_voxel` (n, 3) their centroids, `numbers[i]` the identity of label i + 1. `height` (Z, Y, X) is
    positive in labelled nuclei and 0 on their outlines between voxels.
    """

    light: Float
    instances: NDArray[np.uint16]
    height: Float
    centres_voxel: NDArray[np.float64]
    numbers: list[int]

    def within(self, inside: NDArray[np.bool_]) -> Scene:
        """Return the scene with labels only inside a mask that broadcasts to (Z, Y, X)."""
        kept = np.where(inside, self.instances, 0)
        share = np.bincount(kept.ravel(), minlength=len(self.numbers) + 1) / np.bincount(
            self.instances.ravel()
        )
        kept = np.where(share[kept] > VISIBLE, kept, 0)
        return scene_of(self.light, kept, self.numbers, np.where(inside, self.height, -abs(self.height)))


def render(population: Population, grid: Grid, growth: Growth, optics: Optics, seed: Seed) -> Scene:
    """Render one time point.

    Parameters
    ----------
    population
        Nuclei, and other bright objects, which are absent from the ground truth.
    grid, growth, optics
        Voxel grid, parameters of the shapes, and parameters of staining and blur.
    seed
        Seed of the chromatin's grain.
    """
    nuclei, spacing = population.nuclei, grid.spacing
    everything = [*nuclei, *population.others]
    margin: Spacing = (2.5 * optics.axial_um, 2.5 * optics.lateral_um, 2.5 * optics.lateral_um)
    boxes = [grid.box(n, margin, growth) for n in everything]
    grain = _grain(grid, optics, stream(seed, "chromatin"))
    depth, owner = np.full(grid.shape, -np.inf, np.float32), np.zeros(grid.shape, np.int32)
    insides: list[Float | None] = []
    for index, (nucleus, box) in enumerate(zip(everything, boxes, strict=True), 1):
        inside = None if box is None else depth_um(nucleus, grid.offsets(nucleus, box), growth)
        insides.append(inside)
        if box is not None and inside is not None:
            wins = inside > depth[box]
            depth[box][wins], owner[box][wins] = inside[wins], index
    stain = np.zeros(grid.shape, np.float32)
    truth = _Truth(grid, optics)
    for index, (nucleus, box, inside) in enumerate(zip(everything, boxes, insides, strict=True), 1):
        if box is None or inside is None:
            continue
        occupancy = np.clip(inside / spacing[2] + np.float32(0.5), 0, 1) * (owner[box] == index)
        plain = occupancy * np.float32(nucleus.concentration)
        stain[box] += plain * chromatin(nucleus, grid.offsets(nucleus, box), grain[box], optics, spacing[2])
        if index <= len(nuclei) and _share(inside, nucleus, spacing) > VISIBLE:
            truth.add(plain, index, box)
    light = blurred(stain, grid, optics) + _glow(grid, growth, optics)
    return scene_of(light, truth.instances, [n.number for n in nuclei], truth.height)


def _share(inside: Float, nucleus: Nucleus, spacing: Spacing) -> float:
    """Return the fraction of a nucleus's volume inside the field."""
    volume = 4 / 3 * np.pi * np.prod(nucleus.semi_axes_um)
    return float((inside > 0).sum() * np.prod(spacing) / volume)


def scene_of(
    light: Float, instances: NDArray[np.integer], numbers: list[int], height: Float | None = None
) -> Scene:
    """Relabel the instances in view to 1..n and compute their centroids.

    Without a `height`, outlines lie half-way between voxels.
    """
    found = np.unique(instances[instances > 0])
    relabel = np.zeros(len(numbers) + 1, np.uint16)
    relabel[found] = np.arange(1, len(found) + 1)
    labels = relabel[instances]
    centres = [
        np.argwhere(labels[box] == i).mean(0) + [s.start for s in box]
        for i, box in enumerate(ndi.find_objects(labels), 1)
    ]
    return Scene(
        light=light,
        instances=labels,
        centres_voxel=np.array(centres, np.float64).reshape(-1, 3),
        numbers=[numbers[i - 1] for i in found],
        height=(labels > 0).astype(np.float32) - np.float32(0.5) if height is None else height,
    )


def _grain(grid: Grid, optics: Optics, rng: np.random.Generator) -> Float:
    """Draw smooth noise of unit variance at two scales, grains and larger domains."""
    total = np.zeros(grid.shape, np.float32)
    for scale in (1.0, 2.5):
        noise = rng.standard_normal(grid.shape, dtype=np.float32)
        smooth = _gauss(noise, [optics.grain_um * scale] * 3, grid.spacing, "wrap")
        total += smooth / (smooth.std() + np.float32(1e-9))
    return total / np.float32(np.sqrt(2))


class _Truth:
    """Ground truth, to which nuclei are added one by one.

    A nucleus is labelled where its blurred light without texture exceeds the fraction `outline` of its peak.
    Of two nuclei, the brighter wins. The height is that fraction of light minus `outline`.
    """

    def __init__(self, grid: Grid, optics: Optics) -> None:
        self.spacing, self.optics = grid.spacing, optics
        self.instances = np.zeros(grid.shape, np.int32)
        self.height = np.full(grid.shape, -optics.outline, np.float32)
        self._light = np.zeros(grid.shape, np.float32)

    def add(self, plain: Float, index: int, box: tuple[slice, ...]) -> None:
        """Add the nucleus of a light (Z, Y, X) in a box, before its blur."""
        optics = self.optics
        core = (optics.axial_um, optics.lateral_um, optics.lateral_um)
        blurred = _gauss(plain, core, self.spacing, "nearest")
        peak = float(blurred.max())
        if peak <= 0:
            return
        wins = (blurred > optics.outline * peak) & (blurred > self._light[box])
        self._light[box][wins], self.instances[box][wins] = blurred[wins], index
        height = blurred / np.float32(peak) - np.float32(optics.outline)
        np.maximum(self.height[box], height, out=self.height[box])


def blurred(stain: Float, grid: Grid, optics: Optics) -> Float:
    """Blur a stain (Z, Y, X): Gaussian core, scattering at the dim end, wide haze."""
    spacing = grid.spacing
    core = _gauss(stain, (optics.axial_um, optics.lateral_um, optics.lateral_um), spacing, "nearest")
    if optics.scattering_um:
        wide = _gauss(core, (0, optics.scattering_um, optics.scattering_um), spacing, "nearest")
        deep = np.linspace(0, 1, grid.shape[0], dtype=np.float32)[:, None, None]
        deep = deep if optics.attenuation < 0 else 1 - deep
        core += deep * (wide - core)
    if not optics.haze:
        return core
    haze = (optics.haze_axial_um, optics.haze_lateral_um, optics.haze_lateral_um)
    out: Float = core + np.float32(optics.haze) * (_gauss(stain, haze, spacing, "nearest") - core)
    return out


def _gauss(image: Float, sigma_um: Spacing | list[float], spacing: Spacing, mode: str) -> Float:
    """Blur with a Gaussian along the axes on which the grid resolves `sigma_um`."""
    out = image
    for axis, (sigma, step) in enumerate(zip(sigma_um, spacing, strict=True)):
        if sigma / step > _FINEST:
            out = ndi.gaussian_filter1d(out, sigma / step, axis, truncate=2.5, mode=mode)
    return out if out is not image else image.copy()


def _glow(grid: Grid, growth: Growth, optics: Optics) -> Float | float:
    """Return the cytoplasm's intensity: a soft ball, or a constant in tissue."""
    if not optics.body or growth.kind == "tissue":
        return optics.body
    squares = [
        ((np.arange(n) * d - c) ** 2).astype(np.float32)
        for n, d, c in zip(grid.shape, grid.spacing, grid.centre_um, strict=True)
    ]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    ball: Float = np.float32(optics.body) / (1 + np.exp((distance - np.float32(growth.radius_um)) / 2.5))
    return ball.astype(np.float32)


def illuminated(shape: Shape, optics: Optics, rng: np.random.Generator) -> Float:
    """Return the relative illumination (Z, Y, X): fading along z, sloped across."""
    nz, ny, nx = shape
    fade = np.exp(optics.attenuation * np.linspace(-0.5, 0.5, nz, dtype=np.float32))
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.sin(turn) * np.linspace(-1, 1, ny)[:, None] + np.cos(turn) * np.linspace(-1, 1, nx)
    across = (1 + optics.gradient * slope / np.sqrt(2)).astype(np.float32)
    out: Float = fade[:, None, None] * across
    return out
