"""Nuclei over the cell cycle, and bright objects that are not nuclei."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.simulator.parameters import Growth

Vector = NDArray[np.float64]

_ANAPHASE_END, TELOPHASE_END, _PROPHASE_START, _METAPHASE_START = 0.02, 0.06, 0.90, 0.94


class Phase(Enum):
    """Phase of the cell cycle, or kind of object; sets shape, texture and brightness."""

    ANAPHASE = "anaphase"
    TELOPHASE = "telophase"
    INTERPHASE = "interphase"
    PROPHASE = "prophase"
    METAPHASE = "metaphase"
    SPINDLE = "spindle"
    FRAGMENT = "fragment"


CONDENSED = (Phase.ANAPHASE, Phase.TELOPHASE, Phase.METAPHASE)


class Nucleus(NamedTuple):
    """Nucleus or other bright object to render; lengths in µm, axes (Z, Y, X)."""

    number: int
    parent: int
    phase: Phase
    centre_um: Vector
    semi_axes_um: Vector
    rotation: Vector
    concentration: float
    texture_seed: int


class Population(NamedTuple):
    """Nuclei of one time point, and bright objects absent from the ground truth."""

    nuclei: list[Nucleus]
    others: list[Nucleus]


def nucleus(
    age: float,
    full_um3: float,
    growth: Growth,
    *,
    number: int,
    parent: int,
    centre_um: Vector,
    offset_um: Vector,
    axis: Vector,
    lies: Vector,
    flat: float,
    brightness: float,
    texture_seed: int,
) -> Nucleus:
    """Return a nucleus of full size `full_um3` at an age (0 to 1) of the cell cycle.

    Condensed plates lie at `centre_um`, perpendicular to `axis`, both (z, y, x). Other nuclei are shifted by
    `offset_um`, oriented by the frame `lies` (3, 3), and thinned by the factor `flat`.
    """
    phase, volume, stretch = _shape_at(age)
    own = np.exp(growth.elongation * _centred(texture_seed)) * [flat, flat**-0.5, flat**-0.5]
    condensed = phase in CONDENSED
    semi_axes = (3 * full_um3 * volume / (4 * np.pi)) ** (1 / 3) * stretch
    return Nucleus(
        number=number,
        parent=parent,
        phase=phase,
        centre_um=centre_um if condensed else centre_um + offset_um,
        semi_axes_um=semi_axes if condensed else semi_axes * own,
        rotation=frame_along(axis) if condensed else lies,
        concentration=brightness * volume**-growth.condensation,
        texture_seed=texture_seed,
    )


def speck(centre_um: Vector, low: float, high: float, rng: np.random.Generator) -> Nucleus:
    """Draw a bright object of radius `low` to `high` µm that is not a nucleus."""
    return Nucleus(
        number=0,
        parent=0,
        phase=Phase.FRAGMENT,
        centre_um=centre_um,
        semi_axes_um=rng.uniform(low, high) * np.exp(rng.normal(0, 0.2, 3)),
        rotation=rotation(rng),
        concentration=float(np.exp(rng.uniform(np.log(0.25), np.log(2.0)))),
        texture_seed=int(rng.integers(2**31)),
    )


def glaring(box_um: Vector, rng: np.random.Generator) -> Nucleus:
    """Draw a large object, much brighter than a nucleus, in a box around the origin."""
    return Nucleus(
        number=0,
        parent=0,
        phase=Phase.FRAGMENT,
        centre_um=rng.uniform(-0.6, 0.6, 3) * box_um,
        semi_axes_um=rng.uniform(1.5, 4.5) * np.exp(rng.normal(0, 0.3, 3)),
        rotation=rotation(rng),
        concentration=float(np.exp(rng.uniform(np.log(2), np.log(10)))),
        texture_seed=int(rng.integers(2**31)),
    )


def fragments(dying: Nucleus) -> list[Nucleus]:
    """Return 2 to 5 bright, round fragments of an apoptotic nucleus."""
    rng = np.random.default_rng(dying.texture_seed)
    size = float(np.prod(dying.semi_axes_um) ** (1 / 3))
    return [
        dying._replace(
            number=0,
            phase=Phase.FRAGMENT,
            centre_um=dying.centre_um + rng.normal(0, 0.4 * size, 3),
            semi_axes_um=np.full(3, size * rng.uniform(0.15, 0.4)),
            concentration=dying.concentration * rng.uniform(0.8, 3.0),
        )
        for _ in range(rng.integers(2, 6))
    ]


def _shape_at(age: float) -> tuple[Phase, float, Vector]:
    """Return phase, volume relative to full size, and stretch of the axes."""
    if age < _ANAPHASE_END:
        return Phase.ANAPHASE, 0.13, _flat(0.5)
    if age < TELOPHASE_END:
        part = (age - _ANAPHASE_END) / (TELOPHASE_END - _ANAPHASE_END)
        return Phase.TELOPHASE, 0.14 + 0.2 * part, _flat(0.6 + 0.3 * part)
    if age < _PROPHASE_START:
        grown = 1 - np.exp(-(age - TELOPHASE_END) / 0.2)
        return Phase.INTERPHASE, 0.45 + 0.6 * grown, np.ones(3)
    if age < _METAPHASE_START:
        return Phase.PROPHASE, 0.75, np.ones(3)
    return Phase.METAPHASE, 0.25, _flat(0.5)


def _flat(thickness: float) -> Vector:
    return np.array([thickness, thickness**-0.5, thickness**-0.5])


def unit(rng: np.random.Generator) -> Vector:
    """Draw a random unit vector (z, y, x)."""
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def rotation(rng: np.random.Generator) -> Vector:
    """Draw a random orthonormal frame (3, 3), in columns."""
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def frame_along(axis: Vector) -> Vector:
    """Return an orthonormal frame (3, 3), in columns, the first along `axis`."""
    first = axis / np.linalg.norm(axis)
    second = np.cross(first, np.eye(3)[np.argmin(np.abs(first))])
    second /= np.linalg.norm(second)
    return np.column_stack([first, second, np.cross(first, second)])


def _centred(seed: int) -> Vector:
    """Draw three log stretches that sum to 0, which preserves the volume."""
    values = np.random.default_rng(seed).normal(size=3)
    return values - values.mean()
