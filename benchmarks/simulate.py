"""Time the simulation of a volume on one core: python -m benchmarks.simulate.

An embryo of 32 nuclei in BBBC050's field and voxels, other settings drawn as shipped. Measures CPU seconds in
one thread, which other load hardly changes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

from qcanet_monai.simulator.lineage import Embryo
from qcanet_monai.simulator.series import simulate_frame
from qcanet_monai.simulator.settings import Simulation, shipped

SEEDS = 10
TARGET = 0.3  # seconds
NUCLEI = 32
MOMENT = 5.5  # generations: all cells have divided five times
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Cost(NamedTuple):
    """CPU seconds of one volume: growth, and the rest (rendering, truth, camera)."""

    growth: float
    rest: float


def fixed() -> Simulation:
    """Fix the field, voxels and number of nuclei of the shipped distributions.

    A view is square: 51 x 121 x 121 voxels stand for 51 x 120 x 122.
    """
    shifts = dict.fromkeys(("shift_z_um", "shift_y_um", "shift_x_um"), 0.0)
    field = {"lateral_um": 0.8, "anisotropy": 1.75 / 0.8, "depth_um": 51 * 1.75, "width_um": 121 * 0.8}
    view: dict[str, Any] = {**field, **shifts, "most": 160, "first": MOMENT, "last": MOMENT, "oval": 0}
    growth = {"kind": "embryo", "radius_um": 43.0, "asynchrony": 0.0, "apoptosis": 0.0}
    held = {"view": view, "growth": growth}
    return shipped().changed(
        {group: {name: {"always": value} for name, value in values.items()} for group, values in held.items()}
    )


def cost(seed: int, settings: Simulation) -> Cost:
    """Time one volume; its growth is repeated alone and subtracted."""
    recording = settings.draw((seed,))
    begun = time.process_time()
    population = Embryo(recording.growth, (seed,)).at(recording.view.last)
    grown = time.process_time()
    simulate_frame(seed, settings=settings)
    whole = time.process_time() - grown
    assert len(population.nuclei) == NUCLEI
    return Cost(grown - begun, whole - (grown - begun))


def costs(seeds: int) -> list[Cost]:
    """Time each seed's volume, after a warm-up."""
    settings = fixed()
    cost(seeds, settings)
    return [cost(seed, settings) for seed in range(seeds)]


def report(found: list[Cost]) -> str:
    """State the medians, the spread of the total and its ratio to the target."""
    whole = sorted(sum(one) for one in found)
    median = statistics.median(whole)
    growth, rest = (statistics.median(part) for part in zip(*found, strict=True))
    return (
        f"seconds of a volume with {NUCLEI} nuclei: {median:.3f} ({whole[0]:.3f} to {whole[-1]:.3f}), "
        f"at most {TARGET}: {'holds' if median <= TARGET else 'FAILS'}\n"
        f"  growth {growth:.3f}\n  rendering and camera {rest:.3f}\n  ratio to target {median / TARGET:.2f}"
    )


def main() -> None:
    """Print the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    os.environ |= dict.fromkeys(_THREADS, "1")  # read by numpy on import, so only in a new process
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        print(report(pool.submit(costs, options.seeds).result()))


if __name__ == "__main__":
    main()
