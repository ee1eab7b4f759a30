"""A dividing embryo: cells as soft spheres in the zona pellucida, nuclei riding in them.

Time is counted in cell cycles ("generations"): the number of cells doubles about once a unit, which
spreads the stages 1, 2, 4, … 64 evenly over a series.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_STEP = 0.02  # generations between two relaxations of the packing
_TELOPHASE_END, _PROPHASE_START, _METAPHASE_START = 0.05, 0.90, 0.94


class Phase(Enum):
    """Where in its cycle a nucleus stands; sets its size, shape and brightness."""

    TELOPHASE = "telophase"
    INTERPHASE = "interphase"
    PROPHASE = "prophase"
    METAPHASE = "metaphase"


@dataclass(eq=False)
class Cell:
    """One cell; `fraction` is its share of the embryo's volume."""

    number: int
    parent: int
    position: Vector
    axis: Vector
    fraction: float
    born: float
    lifetime: float
    size: float
    brightness: float
    rotation: Vector
    offset: Vector
    texture_seed: int = 0

    def age(self, time: float) -> float:
        """Part of the cycle that has passed, 0 at birth, 1 at division."""
        return (time - self.born) / self.lifetime


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


@dataclass(frozen=True)
class GrowthSettings:
    """How an embryo grows; `draw` gives the spread that the simulator covers."""

    radius_um: float = 43.0
    zygote_volume_um3: float = 8000.0
    volume_exponent: float = 0.65
    compaction: float = 0.9
    asynchrony: float = 0.08
    size_spread: float = 0.1
    brightness_spread: float = 0.25
    elongation: float = 0.15
    condensation: float = 0.9
    polar_bodies: int = 2
    flattening: Vector = field(default_factory=lambda: np.ones(3))

    @classmethod
    def draw(cls, rng: np.random.Generator) -> GrowthSettings:
        """Draw one embryo's settings."""
        return cls(
            radius_um=rng.uniform(35, 48),
            zygote_volume_um3=rng.uniform(4500, 11000),
            volume_exponent=rng.uniform(0.5, 0.78),
            compaction=rng.uniform(0.7, 1.0),
            asynchrony=rng.uniform(0.03, 0.14),
            size_spread=rng.uniform(0.05, 0.2),
            brightness_spread=rng.uniform(0.1, 0.45),
            elongation=rng.uniform(0.05, 0.3),
            condensation=rng.uniform(0.5, 1.0),
            polar_bodies=int(rng.integers(0, 4)),
            flattening=rng.uniform(0.85, 1.0, 3),
        )


class Embryo:
    """Grows from one cell; `nuclei_at` must be called with times that do not go back.

    Parameters
    ----------
    settings
        The embryo's settings.
    rng
        Source of every random choice; the same state gives the same embryo.
    """

    def __init__(self, settings: GrowthSettings, rng: np.random.Generator) -> None:
        self.settings = settings
        self._rng = rng
        self._time = 0.0
        self._count = 0
        start = rng.normal(0, 0.05 * settings.radius_um, 3)
        self.cells = [self._new_cell(0, start, _unit(rng), 1.0)]
        self.polar_bodies = [self._new_polar_body() for _ in range(settings.polar_bodies)]

    def nuclei_at(self, time: float) -> tuple[list[Nucleus], list[Nucleus]]:
        """Nuclei and polar bodies at `time` (generations since the zygote), centred on the embryo."""
        if time < self._time:
            raise ValueError(f"expected a time not before {self._time}, got {time}: an embryo grows forward")
        while self._time < time:
            self._advance(min(_STEP, time - self._time))
        return [self._nucleus(cell) for cell in self.cells], self.polar_bodies

    def _new_cell(self, parent: int, position: Vector, axis: Vector, fraction: float) -> Cell:
        s, rng = self.settings, self._rng
        self._count += 1
        return Cell(
            number=self._count,
            parent=parent,
            position=position,
            axis=axis,
            fraction=fraction,
            born=self._time,
            lifetime=max(0.5, rng.normal(1.0, s.asynchrony)),
            size=float(np.exp(rng.normal(0, s.size_spread))),
            brightness=float(np.exp(rng.normal(0, s.brightness_spread))),
            rotation=_rotation(rng),
            offset=rng.normal(0, 0.12, 3),
            texture_seed=int(rng.integers(2**31)),
        )

    def _new_polar_body(self) -> Nucleus:
        s, rng = self.settings, self._rng
        radius = rng.uniform(1.6, 3.6)
        return Nucleus(
            number=0,
            parent=0,
            phase=Phase.INTERPHASE,
            centre_um=_unit(rng) * s.radius_um * s.flattening * rng.uniform(0.85, 1.05),
            semi_axes_um=radius * np.exp(rng.normal(0, 0.2, 3)),
            rotation=_rotation(rng),
            concentration=float(np.exp(rng.uniform(np.log(0.25), np.log(2.0)))),
            texture_seed=int(rng.integers(2**31)),
        )

    def _advance(self, step: float) -> None:
        self._time += step
        for cell in [c for c in self.cells if c.age(self._time) >= 1]:
            self._divide(cell)
        for _ in range(3):
            self._relax()
        for cell in self.cells:
            cell.position += self._rng.normal(0, 0.15, 3)

    def _divide(self, cell: Cell) -> None:
        share = np.clip(self._rng.normal(0.5, 0.03), 0.4, 0.6)
        reach = 0.33 * self._cell_radius(cell)
        self.cells.remove(cell)
        for sign, part in ((1, share), (-1, 1 - share)):
            daughter = self._new_cell(
                cell.number, cell.position + sign * reach * cell.axis, cell.axis, cell.fraction * part
            )
            daughter.size = float(np.sqrt(daughter.size * cell.size))
            daughter.brightness = float(np.sqrt(daughter.brightness * cell.brightness))
            self.cells.append(daughter)

    def _cell_radius(self, cell: Cell) -> float:
        return self.settings.radius_um * float(cell.fraction) ** (1 / 3) * 0.9

    def _relax(self) -> None:
        """Push overlapping cells apart and hold all of them inside the zona."""
        s = self.settings
        position = np.array([c.position for c in self.cells])
        radius = np.array([self._cell_radius(c) for c in self.cells])
        difference = position[:, None] - position[None]
        distance = np.linalg.norm(difference, axis=-1) + 1e-9
        wanted = (radius[:, None] + radius[None]) * s.compaction * 0.9
        push = np.clip(wanted - distance, 0, None)
        np.fill_diagonal(push, 0)
        position += 0.2 * ((push / distance)[..., None] * difference).sum(1)
        limit = np.clip(s.radius_um - 0.85 * radius, 1.0, None)
        scaled = position / s.flattening
        far = np.linalg.norm(scaled, axis=1)
        position *= np.where(far > limit, 1 - 0.5 * (1 - limit / np.maximum(far, 1e-9)), 1)[:, None]
        for cell, new in zip(self.cells, position, strict=True):
            cell.position = new
            if cell.age(self._time) < 0.85:  # the spindle's axis is set late in the cycle
                cell.axis = _unit(self._rng) if self._rng.random() < 0.02 else cell.axis

    def _nucleus(self, cell: Cell) -> Nucleus:
        s = self.settings
        age = cell.age(self._time)
        full = s.zygote_volume_um3 * cell.fraction**s.volume_exponent * cell.size
        phase, volume, stretch = _shape_at(age)
        own = np.exp(s.elongation * _centred(cell.texture_seed))
        semi_axes = (3 * full * volume / (4 * np.pi)) ** (1 / 3) * stretch * own
        condensed = phase in (Phase.TELOPHASE, Phase.METAPHASE)
        # in mitosis the plate stands across the spindle's axis; otherwise a nucleus lies as it likes
        rotation = _frame_along(cell.axis) if condensed else cell.rotation
        offset = cell.offset * (self._cell_radius(cell) if not condensed else 0.0)
        return Nucleus(
            number=cell.number,
            parent=cell.parent,
            phase=phase,
            centre_um=cell.position + offset,
            semi_axes_um=semi_axes,
            rotation=rotation,
            concentration=cell.brightness * volume**-s.condensation,
            texture_seed=cell.texture_seed,
        )


def _shape_at(age: float) -> tuple[Phase, float, Vector]:
    """Phase, volume relative to a full interphase nucleus, and stretch of the axes at a cycle's age."""
    if age < _TELOPHASE_END:
        part = age / _TELOPHASE_END
        return Phase.TELOPHASE, 0.14 + 0.2 * part, np.array([0.6 + 0.3 * part, 1.29, 1.29])
    if age < _PROPHASE_START:
        grown = 1 - np.exp(-(age - _TELOPHASE_END) / 0.2)
        return Phase.INTERPHASE, 0.45 + 0.6 * grown, np.ones(3)
    if age < _METAPHASE_START:
        return Phase.PROPHASE, 0.75, np.ones(3)
    return Phase.METAPHASE, 0.25, np.array([0.5, 1.41, 1.41])


def _unit(rng: np.random.Generator) -> Vector:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _rotation(rng: np.random.Generator) -> Vector:
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def _frame_along(axis: Vector) -> Vector:
    """An orthonormal frame (columns) whose first axis is `axis`."""
    helper = np.eye(3)[np.argmin(np.abs(axis))]
    second = np.cross(axis, helper)
    second /= np.linalg.norm(second)
    return np.column_stack([axis, second, np.cross(axis, second)])


def _centred(seed: int) -> Vector:
    """Three log-stretches that sum to 0, so that a volume stays what it is."""
    values = np.random.default_rng(seed).normal(size=3)
    return values - values.mean()
