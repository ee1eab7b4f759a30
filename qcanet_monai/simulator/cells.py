"""Tissue of contiguous cells with stained membranes.

The cells form a power diagram (Aurenhammer 1987); smooth noise warps the coordinates and curves the walls.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, ndtri

from qcanet_monai.errors import InputError
from qcanet_monai.simulator.noise import smooth_noise
from qcanet_monai.simulator.nuclei import Vector, rotation, unit
from qcanet_monai.simulator.parameters import Growth, Optics
from qcanet_monai.simulator.render import VISIBLE, Scene, blurred, scene_of
from qcanet_monai.simulator.settings import Seed, stream
from qcanet_monai.simulator.shapes import Float, Grid
from qcanet_monai.simulator.tissue import spread

_APART = 0.64 ** (1 / 3)  # distance between neighbours, in diameters of a sphere of the cell's volume
_REACH = 1.1  # largest distance of a wall from its cell's point, in neighbour distances
_WAVE = 0.35  # wavelength of the walls, in cell diameters
_MOST = 2**15
_FAR = 2.0**52  # larger than any key
_UNIT = 1e-4  # in cell diameters; powers are rounded to multiples of its square
_SOFT = 0.25  # width of a hole's edge, in standard deviations of the noise


class Seeds(NamedTuple):
    """Generating points of the cells, in a space stretched to make cells isotropic.

    `places` (n, 3) in µm, `squares` (n,) squared power radii in µm², `tissue` (n,) False for empty space,
    `stretch` (3, 3) maps positions in the field, relative to the origin, into the stretched space.
    """

    places: Vector
    squares: Vector
    tissue: NDArray[np.bool_]
    stretch: Vector


class Nearest(NamedTuple):
    """Two nearest points per voxel (Z, Y, X); `gap`: their power difference, µm²."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    gap: Float


def cells(grid: Grid, growth: Growth, optics: Optics, seed: Seed) -> Scene:
    """Render tissue with membrane stain; intensity 1: peak of a typical membrane.

    Parameters
    ----------
    grid, growth, optics
        Voxel grid, parameters of the cells, and parameters of staining and blur.
    seed
        Seed of every random choice.

    Raises
    ------
    InputError
        If the field would hold more than 32 768 cells.
    """
    seeds = seeded(growth, np.array(grid.shape) * grid.spacing + 2 * np.abs(_shift(grid)), seed)
    near = tessellated(seeds, grid, growth, seed)
    inside = seeds.tissue[near.first]
    rng = stream(seed, "brightness")
    own = np.exp(rng.normal(0, growth.brightness_spread, len(seeds.places))).astype(np.float32)
    stain = walls(seeds, near, grid, growth) * patches(grid, optics, seed)
    stain *= np.sqrt(own[near.first] * own[near.second]) / _peak(grid, growth, optics)
    if optics.body:
        grain = smooth_noise(grid.shape, optics.grain_um, stream(seed, "cytoplasm"), spacing=grid.spacing)
        stain += np.float32(optics.body) * inside * own[near.first] * np.exp(optics.texture * grain)
    labels = np.where(inside, near.first + 1, 0)
    typical = np.pi / 6 * growth.diameter_um**3 / np.prod(grid.spacing)
    labels[np.bincount(labels.ravel())[labels] < VISIBLE * typical] = 0
    return scene_of(blurred(stain, grid, optics), labels, [*range(1, len(seeds.places) + 1)])


def seeded(growth: Growth, extent_um: Vector, seed: Seed) -> Seeds:
    """Draw the cells' points in a box (z, y, x) in µm, extended by a cell diameter.

    Raises
    ------
    InputError
        If the box would hold more than 32 768 points.
    """
    rng = stream(seed, "cells")
    turn, logs = rotation(rng), rng.normal(0, growth.elongation, 3)
    stretch = turn @ np.diag(np.exp(logs.mean() - logs)) @ turn.T
    box = np.abs(stretch) @ extent_um + 2 * growth.diameter_um
    count = round(np.prod(box) / (np.pi / 6 * growth.diameter_um**3))
    if count > _MOST:
        raise InputError(
            f"expected at most {_MOST} cells in the field, got {count} of {growth.diameter_um:g} µm: "
            "raise growth.diameter_um or reduce the field"
        )
    apart = _APART * growth.diameter_um
    places = spread(rng.uniform(-box / 2, box / 2, (count, 3)), apart, box, rng)
    sizes = np.clip(rng.normal(0, growth.size_spread, count), -0.5, 0.5)  # log volumes
    tissue = np.ones(count, bool)
    if growth.empty:
        side = places @ unit(rng)
        tissue = side > np.quantile(side, growth.empty)
    if growth.cavity:
        for _ in range(rng.integers(1, 4)):
            radius = growth.cavity * extent_um.min() / 2 * rng.uniform(0.5, 1)
            tissue &= np.linalg.norm(places - rng.uniform(-0.5, 0.5, 3) * extent_um, axis=1) > radius
    return Seeds(places, (apart / 2 * np.exp(2 / 3 * sizes)) ** 2, tissue, stretch)


def tessellated(seeds: Seeds, grid: Grid, growth: Growth, seed: Seed) -> Nearest:
    """Find the two points of least power (distance² - power radius²) of each voxel."""
    unit_um = _UNIT * growth.diameter_um
    places = _relaxed(seeds.stretch, grid, growth, seed) / np.float32(unit_um)
    points = (seeds.places / unit_um).astype(np.float32)[..., None, None, None]
    # a point's index is encoded in the last digits of its power: one minimum finds both
    lead = np.arange(len(points)) - _MOST * np.rint(seeds.squares / unit_um**2)
    low, high = _boxes(seeds, grid, growth)
    best, other = np.full((2, *grid.shape), _FAR)
    for i in np.flatnonzero((high > low).all(1)):
        box = tuple(slice(*ends) for ends in zip(low[i], high[i], strict=True))
        away = places[(slice(None), *box)] - points[i]
        key = np.rint(np.einsum("izyx,izyx->zyx", away, away)).astype(np.float64)
        key *= _MOST
        key += lead[i]
        np.minimum(other[box], np.maximum(best[box], key), out=other[box])
        np.minimum(best[box], key, out=best[box])
    (first, least), (second, next_least) = (_unpacked(key) for key in (best, other))
    return Nearest(first, second, ((next_least - least) * unit_um**2).astype(np.float32))


def _relaxed(stretch: Vector, grid: Grid, growth: Growth, seed: Seed) -> Float:
    """Return the voxels' warped positions (3, Z, Y, X) in µm."""
    whole = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    places: Float = np.tensordot(stretch.astype(np.float32), grid.places(whole, np.zeros(3)), 1)
    if growth.roughness:
        length, height = _WAVE * growth.diameter_um, np.float32(growth.roughness * growth.diameter_um)
        for i, along in enumerate(places):
            rng = stream((*seed, i), "warp")
            along += height * smooth_noise(grid.shape, length, rng, spacing=grid.spacing)
    return places


def _boxes(seeds: Seeds, grid: Grid, growth: Growth) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return first and one past the last voxel (n, 3) of each cell with its walls."""
    back = np.linalg.inv(seeds.stretch)
    middles = seeds.places @ back.T + grid.centre_um
    far = np.linalg.norm(back, axis=1) * (_REACH * _APART + 2 * growth.roughness) * growth.diameter_um
    far[1:] += np.abs(grid.drift_um).max(initial=0)
    low = np.maximum(np.floor((middles - far) / grid.spacing), 0).astype(int)
    high = np.minimum(np.ceil((middles + far) / grid.spacing) + 1, grid.shape).astype(int)
    return low, high


def _unpacked(key: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Split ``key = number * _MOST + index`` into index and number."""
    number = np.floor(key / _MOST)
    return (key - number * _MOST).astype(np.int32), number


def walls(seeds: Seeds, near: Nearest, grid: Grid, growth: Growth) -> Float:
    """Return the membrane's volume fraction in each voxel (Z, Y, X), float32."""
    out = np.zeros(grid.shape, np.float32)
    steepest = 2 * 2 * _APART * growth.diameter_um * np.linalg.norm(seeds.stretch, 2)  # of the gap, per µm
    here = near.gap < steepest * (growth.membrane_um + max(grid.spacing)) / 2
    here &= seeds.tissue[near.first] | seeds.tissue[near.second]
    one, two = near.first[here], near.second[here]
    points = seeds.places.astype(np.float32)
    across = points[two] - points[one]
    normal = across @ seeds.stretch.astype(np.float32)
    steep = np.einsum("ni,ni->n", normal, normal)
    distance = near.gap[here] / (2 * np.sqrt(steep))  # to the wall: gap / (2 D) for points D apart
    wide = np.sqrt((normal**2 @ np.square(grid.spacing, dtype=np.float32)) / steep)  # voxel, along the normal
    half = np.float32(growth.membrane_um / 2)
    filled = np.minimum(half, distance + wide / 2) - np.maximum(-half, distance - wide / 2)
    out[here] = np.clip(filled / wide, 0, 1)
    return out


def patches(grid: Grid, optics: Optics, seed: Seed) -> Float:
    """Return the relative stain (Z, Y, X): bright and dim patches, and holes."""
    noise = [
        smooth_noise(grid.shape, optics.membrane_patch_um, stream(seed, name), spacing=grid.spacing)
        for name in ("patches", "holes")
    ]
    stain: Float = np.exp(np.float32(optics.membrane_spread) * noise[0])
    if optics.membrane_holes:
        edge = np.float32(ndtri(optics.membrane_holes))
        stain *= np.clip((noise[1] - edge) / np.float32(_SOFT) + np.float32(0.5), 0, 1)
    return stain


def _shift(grid: Grid) -> Vector:
    """Return the offset (z, y, x) of the field's centre from the tissue's, in µm."""
    shift: Vector = grid.centre_um - (np.array(grid.shape) - 1) * grid.spacing / 2
    return shift


def _peak(grid: Grid, growth: Growth, optics: Optics) -> np.float32:
    """Return the blurred peak intensity of a wall parallel to z with unit stain."""
    sharp = np.hypot(optics.lateral_um, grid.spacing[2] / np.sqrt(12))
    return np.float32(erf(growth.membrane_um / (2 * np.sqrt(2) * sharp)))
