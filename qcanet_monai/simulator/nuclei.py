"""One nucleus: its phase, size and shape at an age of its cell's cycle, and what only glows like one."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.simulator.parameters import Growth

Vector = NDArray[np.float64]

_ANAPHASE_END, TELOPHASE_END, _PROPHASE_START, _METAPHASE_START = 0.02, 0.06, 0.90, 0.94


class Phase(Enum):
    """Where in its cycle a nucleus stands; sets its size, shape, texture and brightness."""

    ANAPHASE = "anaphase"
    TELOPHASE = "telophase"
    INTERPHASE = "interphase"
    PROPHASE = "prophase"
    METAPHASE = "metaphase"
    SPINDLE = "spindle"
    FRAGMENT = "fragment"


CONDENSED = (Phase.ANAPHASE, Phase.TELOPHASE, Phase.METAPHASE)


class Nucleus(NamedTuple):
    """What is drawn: lengths in µm, axes (Z, Y, X)."""

    number: int
    parent: int
    phase: Phase
    centre_um: Vector
    semi_axes_um: Vector
    rotation: Vector
    concentration: float
    texture_seed: int


class Population(NamedTuple):
    """The nuclei of one time point, and what glows like them without being any."""

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
    """A nucleus at a cycle's age, of `full_um3` at its largest; condensed ones stand across `axis`."""
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
    """Something that glows and is no nucleus, `low` to `high` µm in radius."""
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
    """Something large and far brighter than a nucleus, anywhere in a box about the origin."""
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
    """The pieces, bright and round, into which an apoptotic nucleus falls."""
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
    """Phase, volume relative to a full interphase nucleus, and stretch of the axes at a cycle's age."""
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
    """Stretch of the axes of a disc, which keeps the volume."""
    return np.array([thickness, thickness**-0.5, thickness**-0.5])


def unit(rng: np.random.Generator) -> Vector:
    """A random direction."""
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def rotation(rng: np.random.Generator) -> Vector:
    """A random orthonormal frame, in columns."""
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def frame_along(axis: Vector) -> Vector:
    """An orthonormal frame (columns) whose first axis is along `axis`."""
    first = axis / np.linalg.norm(axis)
    second = np.cross(first, np.eye(3)[np.argmin(np.abs(first))])
    second /= np.linalg.norm(second)
    return np.column_stack([first, second, np.cross(first, second)])


def _centred(seed: int) -> Vector:
    """Three log-stretches that sum to 0, so that a volume stays what it is."""
    values = np.random.default_rng(seed).normal(size=3)
    return values - values.mean()
