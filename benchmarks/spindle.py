"""Compare the spindle network's variants: python -m benchmarks.spindle --out DIR.

Baseline, A (attention), D (dropout) and AD of Mikeščíková (2023), trained on the same simulated series with
equal steps and scored on series from seeds that no training uses. The last column is the mean difference per
series to the first variant, with its standard error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import UNSEEN
from benchmarks.trained import dataset, table, trained, volume_of
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import dice, relative_volume_error
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.simulator.series import simulate_series
from qcanet_monai.simulator.settings import read_simulation

VARIANTS = {"baseline": (False, 0.0), "A": (True, 0.0), "D": (False, 0.15), "AD": (True, 0.15)}
FRAMES = 10


def scores(bundle: Path, series: int, seed: int) -> NDArray[np.float64]:
    """Score unseen series: Dice, relative volume error, and that of the second half."""
    method, simulation = load_segmenter(bundle), read_simulation("spindle")
    found = np.full((series, FRAMES, 3), np.nan)
    for index in range(series):
        frames = simulate_series((UNSEEN, seed, index), timepoints=FRAMES, settings=simulation)
        for time, frame in enumerate(frames):
            if frame.numbers:
                overlap = overlap_table(frame.instances, method(volume_of(frame)).labels)
                error = relative_volume_error(overlap)
                found[index, time] = dice(overlap), error, error if time >= FRAMES // 2 else np.nan
    return np.nanmean(found, axis=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder of the data and the trainings.")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--series", type=int, default=300, help="Number of series to train on.")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--unseen", type=int, default=48, help="Number of unseen series to score.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    data = dataset(options.out / "data", embryos=options.series, timepoints=4, seed=33, settings="spindle")
    settings = {
        "dataset_dir": str(data),
        "epochs": options.epochs,
        "val_interval": max(1, options.epochs // 16),
        "folds": 12,
        "seed": options.seed,
        "validation_volumes": 30,
    }
    rows = []
    first: NDArray[np.float64] | None = None
    for name in options.variants:
        attention, dropout = VARIANTS[name]
        knobs = {**settings, "attention": attention, "dropout": dropout}
        found = scores(trained("spindle", options.out / name, knobs), options.unseen, options.seed)
        first = found if first is None else first
        more = (found - first)[:, 1]
        spread = more.std(ddof=1) / np.sqrt(len(more))
        rows.append([name, *found.mean(axis=0), f"{more.mean():+.3f} ± {spread:.3f}"])
        header = ["variant", "Dice", "relative volume error", "of the second half"]
        print(table([*header, f"error more than {options.variants[0]}'s"], rows), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
