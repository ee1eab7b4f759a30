"""From nuclei to light: what stains glow where, what the microscope blurs, what an annotator outlines.

Everything is drawn on the camera's own voxel grid; the axial blur is wider than a slice, so a finer
grid would add nothing but time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.simulate.lineage import Nucleus, Phase

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]
Float = NDArray[np.float32]

_TEXTURE = {Phase.TELOPHASE: 0.5, Phase.INTERPHASE: 1.0, Phase.PROPHASE: 1.6, Phase.METAPHASE: 0.5}


@dataclass(frozen=True)
class OpticsSettings:
    """Blur, haze and staining of one embryo's recording; lengths in µm."""

    sigma_um: Spacing = (3.2, 0.7, 0.7)
    haze: float = 0.15
    haze_sigma_um: Spacing = (9.0, 4.0, 4.0)
    texture: float = 0.25
    grain_um: float = 1.2
    nucleoli: float = 3.0
    outline: float = 0.3
    attenuation: float = 0.5
    body: float = 0.03
    roughness: float = 0.06

    @classmethod
    def draw(cls, rng: np.random.Generator) -> OpticsSettings:
        """Draw one recording's settings; the truth's outline level is the annotator's, not drawn."""
        lateral = rng.uniform(0.35, 1.1)
        return cls(
            sigma_um=(rng.uniform(1.8, 5.2), lateral, lateral),
            haze=rng.uniform(0.0, 0.35),
            haze_sigma_um=_draw_haze(rng),
            texture=rng.uniform(0.05, 0.5),
            grain_um=rng.uniform(0.6, 2.0),
            nucleoli=rng.uniform(0, 6),
            attenuation=rng.uniform(-1.1, 1.1),
            body=float(rng.choice([0.0, rng.uniform(0, 0.06), rng.uniform(0.05, 0.18)])),
            roughness=rng.uniform(0.0, 0.12),
        )


def _draw_haze(rng: np.random.Generator) -> Spacing:
    axial, lateral = rng.uniform(6, 14), rng.uniform(2.5, 7)
    return axial, lateral, lateral


@dataclass(frozen=True)
class Scene:
    """Light of one time point before the camera, and its truth; all arrays (Z, Y, X).

    `light` is in units of an interphase nucleus's typical brightness; `instances` holds 1..n;
    `centres_voxel` (n, 3) are the centres of gravity of the instances.
    """

    light: Float
    instances: NDArray[np.uint16]
    centres_voxel: NDArray[np.float64]
    numbers: list[int]


def render(
    nuclei: Sequence[Nucleus],
    polar_bodies: Sequence[Nucleus],
    *,
    shape: Shape,
    spacing: Spacing,
    centre_um: NDArray[np.float64],
    body_radius_um: float,
    settings: OpticsSettings,
    rng: np.random.Generator,
) -> Scene:
    """Draw one time point; `centre_um` places the embryo in the volume."""
    grain = _grain(shape, spacing, settings, rng)
    everything = [*nuclei, *polar_bodies]
    boxes = [_box(n, centre_um, shape, spacing, settings) for n in everything]
    depth, owner = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int32)
    depths: list[Float | None] = []
    for index, (nucleus, box) in enumerate(zip(everything, boxes, strict=True), 1):
        inside = _depth_um(nucleus, box, centre_um, spacing, settings.roughness) if box else None
        depths.append(inside)
        if box is not None and inside is not None:
            wins = inside > depth[box]
            depth[box][wins], owner[box][wins] = inside[wins], index
    stain = np.zeros(shape, np.float32)
    best, instances = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    for index, (nucleus, box, inside) in enumerate(zip(everything, boxes, depths, strict=True), 1):
        if box is None or inside is None:
            continue
        occupancy = np.clip(inside / spacing[2] + 0.5, 0, 1) * (owner[box] == index)
        plain = occupancy * np.float32(nucleus.concentration)
        stain[box] += plain * _chromatin(nucleus, inside, grain[box], box, centre_um, spacing, settings)
        if index <= len(nuclei):
            _outline(plain, index, best[box], instances[box], spacing, settings)
    light = _optics(stain, spacing, settings) + settings.body * _body(
        shape, spacing, centre_um, body_radius_um, settings
    )
    fade = np.exp(settings.attenuation * np.linspace(-0.5, 0.5, shape[0], dtype=np.float32))
    return _scene(light * fade[:, None, None], instances, nuclei)


def _scene(light: Float, instances: NDArray[np.int32], nuclei: Sequence[Nucleus]) -> Scene:
    """Renumber the instances that are in view 1..n and find their centres of gravity."""
    found = np.unique(instances[instances > 0])
    relabel = np.zeros(len(nuclei) + 1, np.uint16)
    relabel[found] = np.arange(1, len(found) + 1)
    labels = relabel[instances]
    centres = ndi.center_of_mass(labels > 0, labels, np.arange(1, len(found) + 1))
    return Scene(
        light=light,
        instances=labels,
        centres_voxel=np.array(centres, np.float64).reshape(-1, 3),
        numbers=[nuclei[i - 1].number for i in found],
    )


def _box(
    nucleus: Nucleus, centre_um: NDArray[np.float64], shape: Shape, spacing: Spacing, settings: OpticsSettings
) -> tuple[slice, slice, slice] | None:
    """Voxels that a nucleus and its blur can reach, or None where that is outside the volume."""
    middle = nucleus.centre_um + centre_um
    reach = 1.35 * nucleus.semi_axes_um.max() + 2.5 * np.array(settings.sigma_um)
    low = np.maximum(np.floor((middle - reach) / spacing), 0).astype(int)
    high = np.minimum(np.ceil((middle + reach) / spacing) + 1, shape).astype(int)
    if np.any(high - low < 2):
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _offsets(
    nucleus: Nucleus, box: tuple[slice, slice, slice], centre_um: NDArray[np.float64], spacing: Spacing
) -> Float:
    """Vectors (Z, Y, X, 3) in µm from the nucleus's centre to the voxels of a box."""
    middle = nucleus.centre_um + centre_um
    lines = [
        (np.arange(s.start, s.stop) * step - m).astype(np.float32)
        for s, step, m in zip(box, spacing, middle, strict=True)
    ]
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)


def _depth_um(
    nucleus: Nucleus,
    box: tuple[slice, slice, slice],
    centre_um: NDArray[np.float64],
    spacing: Spacing,
    roughness: float,
) -> Float:
    """Approximate distance in µm from the bumpy ellipsoid's surface, positive inside."""
    offsets = _offsets(nucleus, box, centre_um, spacing)
    local = (offsets @ nucleus.rotation.astype(np.float32)) / nucleus.semi_axes_um.astype(np.float32)
    radius = np.sqrt((local**2).sum(-1)) + np.float32(1e-6)
    direction = local / radius[..., None]
    rng = np.random.default_rng(nucleus.texture_seed)
    bumps = np.ones_like(radius)
    for _ in range(4):
        wave, phase = rng.normal(0, 2.0, 3).astype(np.float32), rng.uniform(0, 2 * np.pi)
        bumps += np.float32(roughness) * np.cos(direction @ wave + np.float32(phase))
    return (bumps - radius) * np.float32(np.prod(nucleus.semi_axes_um) ** (1 / 3))


def _chromatin(
    nucleus: Nucleus,
    inside: Float,
    grain: Float,
    box: tuple[slice, slice, slice],
    centre_um: NDArray[np.float64],
    spacing: Spacing,
    settings: OpticsSettings,
) -> Float:
    """Relative density of the stain: grain everywhere, dark nucleoli in interphase."""
    density = np.exp(np.float32(settings.texture * _TEXTURE[nucleus.phase]) * grain)
    if nucleus.phase is not Phase.INTERPHASE:
        return density
    rng = np.random.default_rng(nucleus.texture_seed + 1)
    offsets = _offsets(nucleus, box, centre_um, spacing)
    size = float(np.prod(nucleus.semi_axes_um) ** (1 / 3))
    for _ in range(rng.poisson(settings.nucleoli)):
        place = (rng.normal(0, 0.35, 3) * size).astype(np.float32)
        radius = np.float32(size * rng.uniform(0.12, 0.3))
        distance = np.sqrt(((offsets - place) ** 2).sum(-1))
        hole = np.clip((radius - distance) / spacing[2] + 0.5, 0, 1)
        density *= 1 - np.float32(rng.uniform(0.3, 0.9)) * hole * (inside > 0)
    return density


def _grain(shape: Shape, spacing: Spacing, settings: OpticsSettings, rng: np.random.Generator) -> Float:
    """Smooth noise of unit variance at two scales: grains and larger domains."""
    total = np.zeros(shape, np.float32)
    for scale in (1.0, 2.5):
        noise = rng.standard_normal(shape, dtype=np.float32)
        sigma = [settings.grain_um * scale / step for step in spacing]
        smooth = ndi.gaussian_filter(noise, sigma, truncate=2.5, mode="wrap")
        total += smooth / smooth.std()
    return total / np.float32(np.sqrt(2))


def _outline(
    plain: Float,
    index: int,
    best: Float,
    instances: NDArray[np.int32],
    spacing: Spacing,
    settings: OpticsSettings,
) -> None:
    """Mark in place what an annotator outlines: the blurred nucleus above a share of its own peak.

    Where two outlines meet, the brighter one takes the voxel, so nuclei touch and never overlap.
    """
    sigma = [s / step for s, step in zip(settings.sigma_um, spacing, strict=True)]
    blurred = ndi.gaussian_filter(plain, sigma, truncate=2.5)
    peak = float(blurred.max())
    if peak <= 0:
        return
    wins = (blurred > settings.outline * peak) & (blurred > best)
    best[wins], instances[wins] = blurred[wins], index


def _optics(stain: Float, spacing: Spacing, settings: OpticsSettings) -> Float:
    """Point spread: a Gaussian core and a wide haze of out-of-focus light."""
    core = ndi.gaussian_filter(
        stain, [s / d for s, d in zip(settings.sigma_um, spacing, strict=True)], truncate=3
    )
    if settings.haze == 0:
        return core
    wide = ndi.gaussian_filter(
        stain, [s / d for s, d in zip(settings.haze_sigma_um, spacing, strict=True)], truncate=2.5
    )
    return core * np.float32(1 - settings.haze) + wide * np.float32(settings.haze)


def _body(
    shape: Shape,
    spacing: Spacing,
    centre_um: NDArray[np.float64],
    radius_um: float,
    settings: OpticsSettings,
) -> Float:
    """The cytoplasm's weak glow: a soft ball."""
    if settings.body == 0:
        return np.zeros(shape, np.float32)
    squares = [
        ((np.arange(n) * d - c) ** 2).astype(np.float32)
        for n, d, c in zip(shape, spacing, centre_um, strict=True)
    ]
    distance = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2])
    return 1 / (1 + np.exp((distance - np.float32(radius_um)) / np.float32(2.5)))
