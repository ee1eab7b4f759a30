"""Measure a large study: python -m benchmarks.scale --trials 2000.

The trainings cost nothing, so the figures are those of Ray, Optuna, the ledger and MLflow. Prints trials a
minute around some numbers of trials, the driver's memory, the size of the study's folder, and the seconds
from the last trial to the end (winner, tables, plots, MLflow).
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import yaml
from ray import tune

from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.tuning.progress import Progress
from qcanet_monai.tuning.space import settings_of
from qcanet_monai.tuning.trial import Plan
from qcanet_monai.tuning.tune import run_study

EPOCHS = 3
STUDY: dict[str, Any] = {
    "bundle": "nsn",
    "space": {
        "depth": {"low": 1, "high": 3},
        "channels": {"choices": [4, 8, 12, 16]},
        "optimizer": {"choices": ["sgd", "adam"]},
        "learning_rate": [
            {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 3.0, "log": True},
            {"when": {"optimizer": "adam"}, "low": 3.0e-4, "high": 0.1, "log": True},
        ],
        "weight_decay": {"low": 1.0e-6, "high": 1.0e-2, "log": True},
    },
    "settings": {"folds": 2, "isotropic_spacing_um": 4.0, "patch_size": 16},
    "scheduler": {"name": "asha", "grace_epochs": 1, "reduction_factor": 3},
    "epochs": EPOCHS,
    "resources": {"cpu": 1},
}


def free(config: Mapping[str, Any], plan: Plan) -> None:
    """Report three epochs of a made-up objective with checkpoints of a few bytes."""
    settings = settings_of(config)
    best = -abs(math.log10(float(settings["learning_rate"])) + 1.5) - abs(float(settings["depth"]) - 2)
    for epoch in range(1, EPOCHS + 1):
        value = 1 / (1 + math.exp(-best)) * epoch / EPOCHS
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "configs").mkdir()
            for name in ("last.pt", "configs/inference.yaml"):
                (Path(folder) / name).write_text("{}")
            report = {plan.objective: value, "epoch": epoch, "failure": "", "loss": 1 - value}
            report |= {"learning_rate": settings["learning_rate"], "epoch_seconds": 0.0}
            report |= {"parameters": 1000, "multiply_adds": 1000}
            told = {plan.objective: value, "epoch": epoch, "report": report}
            tune.report(told, checkpoint=tune.Checkpoint.from_directory(folder))


def rate(ends: list[float], number: int, width: int = 40) -> float:
    """Return the trials a minute of the last `width` trials up to a number."""
    first = max(0, number - width)
    return 60 * (number - 1 - first) / (ends[number - 1] - ends[first])


def main() -> None:
    """Run the study and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000, help="Number of trials.")
    trials = parser.parse_args().trials
    ends: list[float] = []
    memory: list[float] = []

    def watch(progress: Progress) -> None:
        over = sum(trial.over for trial in progress.trials)
        used = psutil.Process().memory_info().rss / 2**20
        ends.extend([time.perf_counter()] * (over - len(ends)))
        memory.extend([used] * (over - len(memory)))

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        data = root / "data"
        simulate_dataset(data, embryos=2, timepoints=1, spacing=(4.0, 2.0, 2.0), workers=1)
        (root / "large.yaml").write_text(yaml.safe_dump({**STUDY, "trials": trials}, sort_keys=False))
        with mock.patch("qcanet_monai.tuning.engine.train_trial", free):
            run_study(
                root / "large.yaml",
                storage=root / "studies",
                data=data,
                tracking_uri=f"sqlite:///{root}/mlflow.db",
                watch=watch,
            )
        finish = time.perf_counter() - ends[-1]
        folder = root / "studies/large"
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    print("| trials | trials a minute | memory of the driver, MB |")
    print("| ---: | ---: | ---: |")
    for number in [n for n in (50, 200, 500, 1000, 2000) if n <= trials]:
        print(f"| {number} | {rate(ends, number):.0f} | {memory[number - 1]:.0f} |")
    print(f"\nFolder of the study: {size:.0f} MB. From the last trial to the end: {finish:.0f} s.")


if __name__ == "__main__":
    main()
