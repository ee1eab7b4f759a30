"""Meiotic spindle in an oocyte, growing from small and round to long and pointed."""

from __future__ import annotations

import numpy as np

from qcanet_monai.simulator.nuclei import (
    Nucleus,
    Phase,
    Population,
    Vector,
    frame_along,
    glaring,
    speck,
    unit,
)
from qcanet_monai.simulator.parameters import Growth
from qcanet_monai.simulator.settings import Seed, stream

_PLACE, _DRIFT = 0.08, 0.08  # maximum initial offset and drift, in oocyte radii
_TURN = 0.5  # maximum rotation of the axis in radians
_LEVEL = np.array([0.4, 1.0, 1.0])  # keeps axis, rotation and drift close to the yx plane
_SETTLED = 2.0  # duration of the growth in time constants


class Spindle:
    """Spindle over time; `at` may be called with times in any order.

    Parameters
    ----------
    growth, seed
        Parameters of the spindle, and seed of every random choice. Of the embryo's parameters, only radius,
        debris, glare and polar bodies are used.
    """

    def __init__(self, growth: Growth, seed: Seed) -> None:
        self.growth = growth
        rng = stream(seed, "spindle")
        radius = growth.radius_um
        self._start = unit(rng) * rng.uniform(0, _PLACE) * radius
        self._drift = _LEVEL * unit(rng) * rng.uniform(0, _DRIFT) * radius
        self._axis = _LEVEL * unit(rng)
        self._turn = _LEVEL * unit(rng) * np.sin(rng.uniform(0, _TURN)) * np.linalg.norm(self._axis)
        self._side = frame_along(self._axis)[:, 1]
        self._bright = float(np.exp(rng.normal(0, growth.brightness_spread)))
        self._texture_seed = int(rng.integers(2**31))
        bodies = stream(seed, "bodies")
        far = [speck(unit(bodies) * radius * 1.1, 2.0, 5.0, bodies) for _ in range(growth.polar_bodies)]
        near = [_inside(radius, bodies) for _ in range(growth.debris)]
        size = radius * np.ones(3)
        glare = [glaring(2 * size, stream(seed, f"glare {i}")) for i in range(growth.glare)]
        self._others = [*far, *near, *glare]

    def at(self, part: float) -> Population:
        """Return the spindle and other bright objects at `part` of the series, 0 to 1."""
        grown = self._grown(part)
        spindle = Nucleus(
            number=1,
            parent=0,
            phase=Phase.SPINDLE,
            centre_um=self._start + part * self._drift,
            semi_axes_um=self._semi_axes(grown),
            rotation=self._frame(part),
            concentration=self._bright * (0.8 + 0.2 * grown),
            texture_seed=self._texture_seed,
        )
        return Population([spindle], self._others)

    def _frame(self, part: float) -> Vector:
        first = self._axis + part * self._turn
        first /= np.linalg.norm(first)
        second = self._side - (self._side @ first) * first
        second /= np.linalg.norm(second)
        return np.column_stack([first, second, np.cross(first, second)])

    def _grown(self, part: float) -> float:
        """Return the completed fraction of growth: 0 until the onset, then slowing to 1."""
        passed = max(0.0, part - self.growth.spindle_onset) / (1 - self.growth.spindle_onset)
        return float(np.expm1(-_SETTLED * passed) / np.expm1(-_SETTLED))

    def _semi_axes(self, grown: float) -> Vector:
        s = self.growth
        start = min(s.spindle_start_um, s.spindle_width_um)
        end = np.array([max(s.spindle_length_um, s.spindle_width_um), s.spindle_width_um, s.spindle_width_um])
        axes: Vector = (start + grown * (end - start)) / 2
        return axes


def _inside(radius: float, rng: np.random.Generator) -> Nucleus:
    return speck(unit(rng) * radius * rng.random() ** (1 / 3), 0.25, 1.0, rng)
