"""Dividing embryo: cells with nuclei, as soft spheres in the zona pellucida.

Time is in generations (cell cycles since the zygote), so stages of 1, 2, 4, … 64 cells are evenly spaced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcanet_monai.simulator.nuclei import (
    TELOPHASE_END,
    Nucleus,
    Population,
    Vector,
    fragments,
    frame_along,
    glaring,
    nucleus,
    rotation,
    speck,
    unit,
)
from qcanet_monai.simulator.parameters import Growth
from qcanet_monai.simulator.settings import Seed, stream

_STEP = 0.04  # generations between relaxations of the packing
_CAVITATION, _CAVITY_GROWN = 4.8, 6.2  # generations
_MORULA = 16  # number of cells at which apoptosis begins


@dataclass(eq=False)
class Cell:
    """Cell; `fraction` is its share of the embryo's volume, times are in generations."""

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
    dead: bool = False

    def age(self, time: float) -> float:
        """Return the elapsed fraction of the cell cycle: 0 at birth, 1 at division."""
        return (time - self.born) / self.lifetime


class Embryo:
    """Embryo that grows from one cell; call `at` with non-decreasing times.

    Parameters
    ----------
    growth, seed
        Parameters of the embryo, and seed of every random choice.
    """

    def __init__(self, growth: Growth, seed: Seed) -> None:
        self.growth = growth
        self._rng = rng = stream(seed, "embryo")
        self._time = 0.0
        self._count = 0
        self._squeeze = np.diag([growth.flatness, 1.0, 1.0])
        turn = rotation(rng)
        self._squeeze = turn @ self._squeeze @ turn.T
        self._cavity_side = unit(rng)
        start = rng.normal(0, 0.05 * growth.radius_um, 3)
        self.cells = [self._new_cell(0, start, unit(rng), 1.0)]
        bodies = stream(seed, "bodies")
        self.polar_bodies = [self._body(bodies, 1.4, 4.2, 0.8, 1.1) for _ in range(growth.polar_bodies)]
        self.debris = [self._body(bodies, 0.25, 1.0, 0.0, 1.2) for _ in range(growth.debris)]
        size = growth.radius_um * np.ones(3)
        self.glare = [glaring(2 * size, stream(seed, f"glare {i}")) for i in range(growth.glare)]

    def at(self, time: float) -> Population:
        """Return the population at a time in generations; origin: the embryo's centre.

        Raises
        ------
        ValueError
            If `time` is before the time of an earlier call.
        """
        if time < self._time:
            raise ValueError(f"expected a time not before {self._time}, got {time}: an embryo grows forward")
        while self._time < time:
            self._advance(min(_STEP, time - self._time))
        living = [self._nucleus(cell) for cell in self.cells if not cell.dead]
        dead = [part for cell in self.cells if cell.dead for part in fragments(self._nucleus(cell))]
        return Population(living, [*map(self._decayed, self.polar_bodies), *self.debris, *self.glare, *dead])

    def _new_cell(self, parent: int, position: Vector, axis: Vector, fraction: float) -> Cell:
        s, rng = self.growth, self._rng
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
            rotation=rotation(rng),
            offset=rng.normal(0, 0.12, 3),
            texture_seed=int(rng.integers(2**31)),
        )

    def _body(self, rng: np.random.Generator, low: float, high: float, near: float, far: float) -> Nucleus:
        """Draw a speck of radius `low` to `high` µm at `near` to `far` embryo radii."""
        place = self._squeeze @ unit(rng) * self.growth.radius_um * rng.uniform(near, far)
        return speck(place, low, high, rng)

    def _decayed(self, body: Nucleus) -> Nucleus:
        left = np.exp(-self.growth.polar_decay * self._time)
        shrunk = body.semi_axes_um * max(0.5, left) ** 0.5
        return body._replace(concentration=body.concentration * float(left), semi_axes_um=shrunk)

    def _advance(self, step: float) -> None:
        self._time += step
        for _ in range(4):
            self._relax()
        for cell in [c for c in self.cells if c.age(self._time) >= 1 and not c.dead]:
            self._divide(cell)  # last: sister plates are visible before the packing separates them
        jitter = self._rng.normal(0, 0.2, (len(self.cells), 3))
        for cell, move in zip(self.cells, jitter, strict=True):
            cell.position += move

    def _divide(self, cell: Cell) -> None:
        if len(self.cells) >= _MORULA and self._rng.random() < self.growth.apoptosis:
            cell.dead = True
            return
        share = np.clip(self._rng.normal(0.5, 0.03), 0.4, 0.6)
        reach = 0.24 * self._cell_radius(cell)  # from mother to sister plate; the packing increases it
        self.cells.remove(cell)
        for sign, part in ((1, share), (-1, 1 - share)):
            daughter = self._new_cell(
                cell.number, cell.position + sign * reach * cell.axis, cell.axis, cell.fraction * part
            )
            daughter.size = float(np.sqrt(daughter.size * cell.size))
            daughter.brightness = float(np.sqrt(daughter.brightness * cell.brightness))
            self.cells.append(daughter)

    def _cell_radius(self, cell: Cell) -> float:
        return self.growth.radius_um * float(cell.fraction) ** (1 / 3) * 0.9

    def _cavity_um(self) -> float:
        opened = (self._time - _CAVITATION) / (_CAVITY_GROWN - _CAVITATION)
        return self.growth.cavity * self.growth.radius_um * float(np.clip(opened, 0, 1)) ** (1 / 3)

    def _relax(self) -> None:
        """Push overlapping cells apart, out of the cavity and into the zona."""
        s = self.growth
        position = np.array([c.position for c in self.cells])
        radius = np.array([self._cell_radius(c) for c in self.cells])
        difference = position[:, None] - position[None]
        distance = np.linalg.norm(difference, axis=-1) + 1e-9
        wanted = (radius[:, None] + radius[None]) * s.compaction * 0.9
        push = np.clip(wanted - distance, 0, None)
        np.fill_diagonal(push, 0)
        position += 0.2 * ((push / distance)[..., None] * difference).sum(1)
        cavity = self._cavity_um()
        if cavity:
            middle = self._cavity_side * (s.radius_um - cavity) * 0.9
            away = position - middle
            gap = np.linalg.norm(away, axis=1) + 1e-9
            position += (np.clip(cavity + 0.3 * radius - gap, 0, None) * 0.5 / gap)[:, None] * away
        limit = np.clip(s.radius_um - 0.85 * radius * (0.5 if cavity else 1.0), 1.0, None)
        far = np.linalg.norm(position @ np.linalg.inv(self._squeeze), axis=1)
        position *= np.where(far > limit, 1 - 0.5 * (1 - limit / np.maximum(far, 1e-9)), 1)[:, None]
        for cell, new in zip(self.cells, position, strict=True):
            cell.position = new
            if TELOPHASE_END < cell.age(self._time) < 0.85:  # the spindle's axis is set late in the cycle
                cell.axis = unit(self._rng) if self._rng.random() < 0.02 else cell.axis

    def _nucleus(self, cell: Cell) -> Nucleus:
        s = self.growth
        full = s.zygote_volume_um3 * cell.fraction**s.volume_exponent * cell.size
        flat = self._flattened(cell)
        lies = frame_along(cell.position + 1e-6) if flat != 1 else cell.rotation
        return nucleus(
            cell.age(self._time) if not cell.dead else 0.5,
            full,
            s,
            number=cell.number,
            parent=cell.parent,
            centre_um=cell.position,
            offset_um=cell.offset * self._cell_radius(cell),
            axis=cell.axis,
            lies=lies,
            flat=flat,
            brightness=cell.brightness,
            texture_seed=cell.texture_seed,
        )

    def _flattened(self, cell: Cell) -> float:
        """Return the relative thickness of a trophectoderm nucleus; 1 is round."""
        grown = self._cavity_um() / (0.75 * self.growth.radius_um)
        beside = np.dot(cell.position, self._cavity_side) > -0.2 * self.growth.radius_um
        return 1 - 0.45 * min(1.0, grown) if grown and beside else 1.0
