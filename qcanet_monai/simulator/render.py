"""From nuclei to light: what stains glow where, what the microscope blurs, what an annotator outlines.

Everything is drawn on the camera's own voxel grid; the axial blur is wider than a slice, so a finer
grid would add nothing but time.
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

VISIBLE = 0.05  # a nucleus of which the field holds less is not outlined: only its blur reaches in
_FINEST = 0.35  # a sigma below so many voxels blurs nothing that the grid could show


@dataclass(frozen=True)
class Scene:
    """Light of one time point before illumination and camera, and its truth; all arrays (Z, Y, X).

    `light` is in units of an interphase nucleus's typical brightness; `instances` holds 1..n;
    `centres_voxel` (n, 3) are the centres of gravity of the instances; `numbers[i]` is the identity of
    label i + 1.
    """

    light: Float
    instances: NDArray[np.uint16]
    centres_voxel: NDArray[np.float64]
    numbers: list[int]

    def within(self, inside: NDArray[np.bool_]) -> Scene:
        """The same light, with the truth of what lies in a mask (Z, Y, X, or broadcast to it)."""
        kept = np.where(inside, self.instances, 0)
        share = np.bincount(kept.ravel(), minlength=len(self.numbers) + 1) / np.bincount(
            self.instances.ravel()
        )
        return scene_of(self.light, np.where(share[kept] > VISIBLE, kept, 0), self.numbers)


def render(population: Population, grid: Grid, growth: Growth, optics: Optics, seed: Seed) -> Scene:
    """Draw one time point.

    Parameters
    ----------
    population
        The nuclei, and other bodies, which glow and are absent from the truth.
    grid
        The voxels.
    growth, optics
        Settings of the shapes, and of staining and blur.
    seed
        Fixes the chromatin's grain.
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
    best, instances = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.int32)
    for index, (nucleus, box, inside) in enumerate(zip(everything, boxes, insides, strict=True), 1):
        if box is None or inside is None:
            continue
        occupancy = np.clip(inside / spacing[2] + np.float32(0.5), 0, 1) * (owner[box] == index)
        plain = occupancy * np.float32(nucleus.concentration)
        stain[box] += plain * chromatin(nucleus, grid.offsets(nucleus, box), grain[box], optics, spacing[2])
        if index <= len(nuclei) and _share(inside, nucleus, spacing) > VISIBLE:
            _outline(plain, index, best[box], instances[box], spacing, optics)
    light = blurred(stain, grid, optics) + _glow(grid, growth, optics)
    return scene_of(light, instances, [n.number for n in nuclei])


def _share(inside: Float, nucleus: Nucleus, spacing: Spacing) -> float:
    """How much of a nucleus's volume lies in the field."""
    volume = 4 / 3 * np.pi * np.prod(nucleus.semi_axes_um)
    return float((inside > 0).sum() * np.prod(spacing) / volume)


def scene_of(light: Float, instances: NDArray[np.integer], numbers: list[int]) -> Scene:
    """Renumber the instances that are in view 1..n and find their centres of gravity."""
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
    )


def _grain(grid: Grid, optics: Optics, rng: np.random.Generator) -> Float:
    """Smooth noise of unit variance at two scales: grains and larger domains."""
    total = np.zeros(grid.shape, np.float32)
    for scale in (1.0, 2.5):
        noise = rng.standard_normal(grid.shape, dtype=np.float32)
        smooth = _gauss(noise, [optics.grain_um * scale] * 3, grid.spacing, "wrap")
        total += smooth / (smooth.std() + np.float32(1e-9))
    return total / np.float32(np.sqrt(2))


def _outline(
    plain: Float,
    index: int,
    best: Float,
    instances: NDArray[np.int32],
    spacing: Spacing,
    optics: Optics,
) -> None:
    """Mark in place what an annotator outlines: the blurred nucleus above a share of its own peak.

    Where two outlines meet, the brighter one takes the voxel, so nuclei touch and never overlap.
    """
    blurred = _gauss(plain, (optics.axial_um, optics.lateral_um, optics.lateral_um), spacing, "nearest")
    peak = float(blurred.max())
    if peak <= 0:
        return
    wins = (blurred > optics.outline * peak) & (blurred > best)
    best[wins], instances[wins] = blurred[wins], index


def blurred(stain: Float, grid: Grid, optics: Optics) -> Float:
    """Point spread: a Gaussian core, wider at the dim end where tissue scatters, and a wide haze."""
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
    """Gaussian blur of so many µm; axes on which the grid could not show it are left."""
    out = image
    for axis, (sigma, step) in enumerate(zip(sigma_um, spacing, strict=True)):
        if sigma / step > _FINEST:
            out = ndi.gaussian_filter1d(out, sigma / step, axis, truncate=2.5, mode=mode)
    return out if out is not image else image.copy()


def _glow(grid: Grid, growth: Growth, optics: Optics) -> Float | float:
    """The cytoplasm's weak glow: a soft ball, or everywhere in a tissue."""
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
    """Share (Z, Y, X) of each voxel's light that reaches the camera: fading along z, a slope across."""
    nz, ny, nx = shape
    fade = np.exp(optics.attenuation * np.linspace(-0.5, 0.5, nz, dtype=np.float32))
    turn = rng.uniform(0, 2 * np.pi)
    slope = np.sin(turn) * np.linspace(-1, 1, ny)[:, None] + np.cos(turn) * np.linspace(-1, 1, nx)
    across = (1 + optics.gradient * slope / np.sqrt(2)).astype(np.float32)
    out: Float = fade[:, None, None] * across
    return out
