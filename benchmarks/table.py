"""Tables of short trainings, on a grid of a study's settings.

``python -m benchmarks.table NAME`` trains what ``tables/NAME.csv`` lacks of the study ``tables/NAME.yaml``.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.io import replacing
from qcanet_monai.tuning.study import Study, Value
from qcanet_monai.tuning.study_file import read_study
from qcanet_monai.tuning.trial import Plan, finish_trial

FOLDER = Path(__file__).parent / "tables"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
LEVELS = 5  # learning rates, evenly spread over the logarithm
SEEDS = (0, 1)  # of a point: the mean of two trainings halves the noise's variance

Key = tuple[tuple[str, str], ...]


class Table:
    """Recorded trainings of a study: the objective after each epoch.

    Parameters
    ----------
    name
        Stem of the study and of the table in ``benchmarks/tables``.
    """

    def __init__(self, name: str) -> None:
        self.name, self.path = name, FOLDER / f"{name}.csv"
        self.study = read_study(FOLDER / f"{name}.yaml")
        self.objective = Bundle.find(self.study.bundle).objective
        self.columns = [*self.study.space, "seed"]
        self.epochs = [f"epoch_{epoch}" for epoch in range(1, self.study.epochs + 1)]
        self.values = self._read() if self.path.exists() else {}

    def curve(self, settings: Mapping[str, Value]) -> list[float]:
        """Interpolate the objective after each epoch over the log learning rate."""
        rates = self.rates(settings)
        recorded = [
            np.mean([self.values[_key({**settings, "learning_rate": r, "seed": s})] for s in SEEDS], axis=0)
            for r in rates
        ]
        rate = np.log(float(settings["learning_rate"]))
        return [float(np.interp(rate, np.log(rates), values)) for values in zip(*recorded, strict=True)]

    @property
    def best(self) -> float:
        """Highest value of all points and epochs, of the mean of a point's trainings."""
        points = {tuple((k, v) for k, v in key if k != "seed") for key in self.values}
        return max(
            float(np.max(np.mean([self.values[_key({**dict(point), "seed": s})] for s in SEEDS], axis=0)))
            for point in points
        )

    def rates(self, settings: Mapping[str, Value]) -> list[float]:
        """List the recorded learning rates under some settings."""
        domain = next(d for d in self.study.variants("learning_rate") if d.applies(settings))
        low, high = float(domain.low or 1), float(domain.high or 1)
        return [float(f"{low * (high / low) ** (level / (LEVELS - 1)):.6g}") for level in range(LEVELS)]

    def grid(self) -> list[dict[str, Value]]:
        """List every training of the table."""
        points = self.study.combinations(*(key for key in self.study.space if key != "learning_rate"))
        return [
            {**point, "learning_rate": rate, "seed": seed}
            for seed in SEEDS
            for point in points
            for rate in self.rates(point)
        ]

    def record(self, workers: int) -> None:
        """Train every point that the table lacks and add it."""
        data = Path(tempfile.gettempdir()) / f"qcanet-benchmark-{self.name}"
        if not data.exists():
            simulate_dataset(data, **self.study.data.model_dump())  # type: ignore[union-attr]
        left = [point for point in self.grid() if _key(point) not in self.values]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(_train, self.study, point, data): point for point in left}
            for future in as_completed(futures):
                self.values[_key(futures[future])] = future.result()
                self._write()
                print(f"{self.name}: {len(self.values)} of {len(self.grid())}", flush=True)

    def _read(self) -> dict[Key, list[float]]:
        with self.path.open(newline="", encoding="utf-8") as file:
            return {
                _key({name: row[name] for name in self.columns}): [float(row[name]) for name in self.epochs]
                for row in csv.DictReader(file)
            }

    def _write(self) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*self.columns, *self.epochs])
            for key, values in sorted(self.values.items()):
                point = dict(key)
                writer.writerow([*(point[name] for name in self.columns), *(f"{v:.4f}" for v in values)])


def _key(settings: Mapping[str, Value]) -> Key:
    return tuple(sorted((name, str(value)) for name, value in settings.items()))


def _train(study: Study, point: Mapping[str, Value], data: Path) -> list[float]:
    os.nice(19)
    bundle = Bundle.find(study.bundle)
    settings = {**study.settings, "dataset_dir": str(data), "cache_dir": f"{data}-cache"}
    plan = Plan(bundle, settings, bundle.objective, study.epochs, threads=1)
    with tempfile.TemporaryDirectory() as output:
        try:
            values = [float(result[bundle.objective]) for result in finish_trial(point, plan, output)]
        except RuntimeError:  # MONAI's wrapper of an infinite loss
            values = []
    return values + [0.0] * (study.epochs - len(values))


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        Table(name).record(workers=os.cpu_count() or 1)
