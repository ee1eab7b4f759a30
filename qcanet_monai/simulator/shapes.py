"""Shape and chromatin density of one nucleus on a voxel grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.simulator.nuclei import Nucleus, Phase, Vector
from qcanet_monai.simulator.parameters import Growth, Optics, Spacing
from qcanet_monai.simulator.settings import Shape

Float = NDArray[np.float32]

_TEXTURE = {
    Phase.ANAPHASE: 0.5,
    Phase.TELOPHASE: 0.5,
    Phase.INTERPHASE: 1.0,
    Phase.PROPHASE: 1.6,
    Phase.METAPHASE: 0.5,
    Phase.SPINDLE: 0.5,
    Phase.FRAGMENT: 0.3,
}
_PLATE = 2.0  # maximum darkening of a spindle at the metaphase plate, in units of `texture`


class Grid(NamedTuple):
    """Voxel grid: origin at `centre_um` (3,), slice drift `drift_um` (Z, 2), in µm."""

    shape: Shape
    spacing: Spacing
    centre_um: NDArray[np.float64]
    drift_um: NDArray[np.float64]

    def box(self, nucleus: Nucleus, margin_um: Spacing, growth: Growth) -> tuple[slice, slice, slice] | None:
        """Return the box of voxels that a nucleus and its blur reach; None if outside."""
        middle = nucleus.centre_um + self.centre_um
        reach = _swell(growth) * nucleus.semi_axes_um.max() + np.array(margin_um)
        reach[1:] += np.abs(self.drift_um).max(initial=0)
        low = np.maximum(np.floor((middle - reach) / self.spacing), 0).astype(int)
        high = np.minimum(np.ceil((middle + reach) / self.spacing) + 1, self.shape).astype(int)
        if np.any(high - low < 2):
            return None
        return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])

    def offsets(self, nucleus: Nucleus, box: tuple[slice, slice, slice]) -> Float:
        """Return vectors (3, Z, Y, X) in µm from a nucleus's centre to a box's voxels."""
        return self.places(box, nucleus.centre_um)

    def places(self, box: tuple[slice, slice, slice], origin_um: Vector) -> Float:
        """Return vectors (3, Z, Y, X) in µm from a point (z, y, x) to a box's voxels."""
        middle = origin_um + self.centre_um
        z, y, x = (
            (np.arange(s.start, s.stop) * step - m).astype(np.float32)
            for s, step, m in zip(box, self.spacing, middle, strict=True)
        )
        out = np.empty((3, len(z), len(y), len(x)), np.float32)
        drift = self.drift_um[box[0]].astype(np.float32)
        out[0] = z[:, None, None]
        out[1] = y[None, :, None] - drift[:, :1, None]
        out[2] = x[None, None, :] - drift[:, 1:, None]
        return out


def _swell(growth: Growth) -> float:
    """Return the largest radius of a bent, bumpy nucleus, in longest semi-axes."""
    reach = 3 ** max(0.0, 0.5 - 1 / growth.squareness) * (1 + 4 * growth.roughness)
    return float(max(reach + 0.3 * growth.bend, np.hypot(reach, growth.bend * (reach**2 - 0.3))))


def depth_um(nucleus: Nucleus, offsets: Float, growth: Growth) -> Float:
    """Return the approximate depth (Z, Y, X) in µm, positive inside the nucleus.

    Parameters
    ----------
    nucleus
        Nucleus; its frame, semi-axes, phase and seed are used.
    offsets
        Vectors (3, Z, Y, X) in µm from the nucleus's centre, float32.
    growth
        `bend`, `squareness` and `roughness`; condensed nuclei and fragments are neither bent nor blunt.
    """
    turn = (nucleus.rotation / nucleus.semi_axes_um).T.astype(np.float32)
    local = np.tensordot(turn, offsets, 1)
    interphase = nucleus.phase in (Phase.INTERPHASE, Phase.PROPHASE)
    if growth.bend and interphase:
        local[0] += np.float32(growth.bend) * (local[1] ** 2 - np.float32(0.3))
    if nucleus.phase is Phase.SPINDLE:  # round cross-section, pointed poles
        power = np.float32(growth.squareness)
        radius = (np.abs(local[0]) ** power + np.hypot(local[1], local[2]) ** power) ** (1 / power)
    elif growth.squareness != 2 and interphase:
        power = np.float32(growth.squareness)
        radius = (np.abs(local) ** power).sum(0) ** (1 / power)
    else:
        radius = np.sqrt(np.einsum("izyx,izyx->zyx", local, local))
    scale = np.float32(np.prod(nucleus.semi_axes_um) ** (1 / 3))
    if not growth.roughness:
        inside: Float = (1 - radius) * scale
        return inside
    rng = np.random.default_rng(nucleus.texture_seed)
    # waves over direction; near the surface, where bumps matter, `local` has a length of nearly 1
    waves = rng.normal(0, 2.0, (4, 3)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 4).astype(np.float32)
    angles = np.tensordot(waves, local, 1) / (radius + np.float32(1e-3))
    angles += phases[:, None, None, None]
    bumps = 1 + np.float32(growth.roughness) * np.cos(angles).sum(0)
    bumpy: Float = (bumps - radius) * scale
    return bumpy


def chromatin(nucleus: Nucleus, offsets: Float, grain: Float, optics: Optics, voxel_um: float) -> Float:
    """Return the relative stain density (Z, Y, X), float32.

    Parameters
    ----------
    nucleus, offsets
        As for :func:`depth_um`.
    grain
        Smooth noise (Z, Y, X) of unit variance, float32.
    optics
        `texture`, `nucleoli` and `chromocentres` are used.
    voxel_um
        Width of the soft edges of nucleoli and chromocentres in µm.
    """
    density: Float = np.exp(np.float32(optics.texture * _TEXTURE[nucleus.phase]) * grain)
    if nucleus.phase is Phase.SPINDLE:
        density *= _fibres(nucleus, offsets, optics)
    if nucleus.phase is not Phase.INTERPHASE:
        return density
    rng = np.random.default_rng(nucleus.texture_seed + 1)
    size = float(np.prod(nucleus.semi_axes_um) ** (1 / 3))
    holes, spots = rng.poisson(optics.nucleoli), rng.poisson(optics.chromocentres)
    for i in range(holes + spots):
        place = (rng.normal(0, 0.35 if i < holes else 0.5, 3) * size).astype(np.float32)
        radius = size * (rng.uniform(0.12, 0.3) if i < holes else rng.uniform(0.06, 0.14))
        strength = -rng.uniform(0.3, 0.9) if i < holes else rng.uniform(0.5, 2.5)
        near = _near(offsets, place, radius + voxel_um)
        if near is None:
            continue
        part = offsets[(slice(None), *near)] - place[:, None, None, None]
        distance = np.sqrt(np.einsum("izyx,izyx->zyx", part, part))
        ball = np.clip((np.float32(radius) - distance) / np.float32(voxel_um) + np.float32(0.5), 0, 1)
        density[near] *= 1 + np.float32(strength) * ball
    return density


def _fibres(nucleus: Nucleus, offsets: Float, optics: Optics) -> Float:
    """Return the density of a spindle's fibres, dimmed at the metaphase plate."""
    rng = np.random.default_rng(nucleus.texture_seed)
    along, *across = np.tensordot((nucleus.rotation / nucleus.semi_axes_um).T.astype(np.float32), offsets, 1)
    narrowing = np.sqrt(np.clip(1 - along**2, 0.1, 1))
    waves, phases = rng.normal(0, 6, (3, 2)).astype(np.float32), rng.uniform(0, 2 * np.pi, 3)
    angles = [
        (w[0] * across[0] + w[1] * across[1]) / narrowing + p for w, p in zip(waves, phases, strict=True)
    ]
    fibres = np.cos(np.stack(angles)).sum(0) * np.float32(np.sqrt(2 / 3))
    long = 1 - nucleus.semi_axes_um[1] / nucleus.semi_axes_um[0]  # a round spindle has no plate yet
    dark = np.float32(min(1.0, optics.texture * rng.uniform(0, _PLATE)) * long)
    plate = dark * np.exp(-((along / np.float32(0.12)) ** 2))
    density: Float = np.exp(np.float32(optics.texture) * fibres) * (1 - plate)
    return density.astype(np.float32)


def _near(offsets: Float, place: Float, reach: float) -> tuple[slice, slice, slice] | None:
    """Return the part of a box within `reach` µm of `place` on each axis, or None."""
    lines = (offsets[0, :, 0, 0], offsets[1, 0, :, 0], offsets[2, 0, 0, :])
    drifts = (offsets[0, :1, 0, 0] * 0, offsets[1, :, 0, 0] - lines[1][0], offsets[2, :, 0, 0] - lines[2][0])
    found = []
    for line, drift, middle in zip(lines, drifts, place, strict=True):
        low, high = np.searchsorted(line, [middle - reach - drift.max(), middle + reach - drift.min()])
        if low == high:
            return None
        found.append(slice(int(low), int(high)))
    return found[0], found[1], found[2]
