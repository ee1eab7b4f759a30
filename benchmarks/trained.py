"""Data and trainings shared by benchmarks that compare trained bundles."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import UNSEEN
from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.io import Volume
from qcanet_monai.simulator.series import Frame, simulate_frame
from qcanet_monai.simulator.settings import read_simulation


def dataset(folder: Path, **what: Any) -> Path:
    """Simulate a dataset with keywords of `simulate_dataset`, unless it exists."""
    if not folder.exists():
        simulate_dataset(folder, **what)
    return folder


def trained(bundle: str, folder: Path, settings: Mapping[str, Any], *overlays: str) -> Path:
    """Train a bundle in a folder, or resume; a finished training is kept."""
    begun = time.perf_counter()
    workflow = Bundle.find(bundle).workflow(*overlays, **{**settings, "output_dir": str(folder)})
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    print(f"{folder.name}: {time.perf_counter() - begun:.0f} s of training", file=sys.stderr, flush=True)
    return folder


def unseen(settings: str | None, seed: int, volumes: int, *, tissue: float | None = None) -> Iterator[Frame]:
    """Simulate single time points from unused seeds; skip those without objects."""
    simulation = read_simulation(settings).with_tissue(tissue)
    for index in range(volumes):
        frame = simulate_frame((UNSEEN, seed, index), settings=simulation)
        if frame.numbers:
            yield frame


def volume_of(frame: Frame) -> Volume:
    """Turn a simulated frame into a volume."""
    return Volume(frame.image, frame.spacing, Path("simulated"))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Format a Markdown table; floats have three decimals."""
    cells = [[f"{v:.3f}" if isinstance(v, float | np.floating) else str(v) for v in row] for row in rows]
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
