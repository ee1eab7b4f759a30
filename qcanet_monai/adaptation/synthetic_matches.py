"""Synthetic matches: simulated recordings on the voxels of an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.appearance import appearance
from qcanet_monai.simulator.series import Frame, simulate_frame
from qcanet_monai.simulator.settings import GROUPS, Seed, Shape, Simulation

Values = dict[str, Any]


class SyntheticMatch(NamedTuple):
    """Simulated recording: seed, distributions, settings by name, appearance, nuclei.

    `nuclei` is the number of nuclei in view, `diameter` their median equivalent diameter in lateral voxels.
    """

    seed: Seed
    simulation: Simulation
    settings: Values
    looks: dict[str, float]
    nuclei: int
    diameter: float

    def frame(self, shape: Shape) -> Frame:
        """Simulate the recording with `shape` (Z, Y, X) voxels."""
        return simulate_frame(self.seed, settings=self.simulation, shape=shape)


def draw_matches(
    simulation: Simulation,
    seeds: Sequence[Seed],
    shape: Shape,
    *,
    workers: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[SyntheticMatch]:
    """Simulate one volume per seed in parallel, in the order of the seeds.

    Parameters
    ----------
    simulation, seeds
        Distributions, and one seed per synthetic match.
    shape
        Number of voxels (Z, Y, X).
    workers
        Number of processes; one per core if None.
    progress
        Called after each synthetic match.
    """
    found: dict[Seed, SyntheticMatch] = {}
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(partial(draw_match, simulation, shape=shape), seed) for seed in seeds]
        try:
            for future in as_completed(futures):
                twin = future.result()
                found[twin.seed] = twin
                progress()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [found[seed] for seed in seeds]


def draw_match(simulation: Simulation, seed: Seed, *, shape: Shape) -> SyntheticMatch:
    """Simulate one volume (Z, Y, X) and compute its appearance."""
    frame = simulate_frame(seed, settings=simulation, shape=shape)
    recording = simulation.draw(seed)
    settings = {
        f"{group}.{name}": getattr(getattr(recording, group), name)
        for group in GROUPS
        for name in getattr(simulation, group)
    }
    return SyntheticMatch(
        seed=seed,
        simulation=simulation,
        settings=settings,
        looks=appearance(frame.image, spacing=frame.spacing),
        nuclei=len(frame.numbers),
        diameter=median_diameter(frame.instances, anisotropy=frame.spacing[0] / frame.spacing[2]),
    )


def median_diameter(labels: NDArray[np.integer], *, anisotropy: float) -> float:
    """Return the median equivalent diameter of labels in lateral voxels; NaN if none."""
    volumes = np.bincount(labels.ravel())[1:]
    volumes = volumes[volumes > 0]
    if not volumes.size:
        return float("nan")
    return float(np.cbrt(6 / np.pi * anisotropy * np.median(volumes)))
