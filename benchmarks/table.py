"""Table of short trainings: a study's settings on a grid, IoU after each epoch."""

from __future__ import annotations

import csv
import os
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

HERE = Path(__file__).parent
STUDY = HERE / "hpo.yaml"
TABLE = HERE / "hpo.csv"
LEVELS = 5  # learning rates, evenly spread over the logarithm
SEEDS = (0, 1)  # of a point: the mean of two trainings halves the noise's variance

Key = tuple[tuple[str, str], ...]


def rates(study: Study, settings: Mapping[str, Value]) -> list[float]:
    """List the recorded learning rates under some settings."""
    domain = next(d for d in study.variants("learning_rate") if d.applies(settings))
    low, high = float(domain.low or 1), float(domain.high or 1)
    return [float(f"{low * (high / low) ** (level / (LEVELS - 1)):.6g}") for level in range(LEVELS)]


def curve(study: Study, table: Mapping[Key, list[float]], settings: Mapping[str, Value]) -> list[float]:
    """Interpolate the objective after each epoch over the log learning rate."""
    recorded = [
        np.mean([table[key_of({**settings, "learning_rate": rate, "seed": seed})] for seed in SEEDS], axis=0)
        for rate in rates(study, settings)
    ]
    logarithms = np.log(rates(study, settings))
    rate = np.log(float(settings["learning_rate"]))
    return [float(np.interp(rate, logarithms, values)) for values in zip(*recorded, strict=True)]


def grid(study: Study) -> list[dict[str, Value]]:
    """List every training of the table."""
    points = study.combinations(*(key for key in study.space if key != "learning_rate"))
    return [
        {**point, "learning_rate": rate, "seed": seed}
        for seed in SEEDS
        for point in points
        for rate in rates(study, point)
    ]


def key_of(settings: Mapping[str, Value]) -> Key:
    """Turn a point into the table's key."""
    return tuple(sorted((name, str(value)) for name, value in settings.items()))


def read_table(study: Study, path: Path = TABLE) -> dict[Key, list[float]]:
    """Read the IoU after each epoch of every training."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [*study.space, "seed"]
    return {
        tuple(sorted((n, row[n]) for n in names)): [
            float(row[f"epoch_{e}"]) for e in range(1, study.epochs + 1)
        ]
        for row in rows
    }


def record(path: Path = TABLE, workers: int = 1) -> None:
    """Train every point that the table lacks and add it."""
    study = read_study(STUDY)
    done = read_table(study, path) if path.exists() else {}
    data = Path(tempfile.gettempdir()) / "qcanet-benchmark-data"
    if not data.exists():
        simulate_dataset(data, **study.data.model_dump())  # type: ignore[union-attr]
    left = [point for point in grid(study) if key_of(point) not in done]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_train, study, point, str(data)): point for point in left}
        for future in as_completed(futures):
            done[key_of(futures[future])] = future.result()
            _write(path, study, done)
            print(f"{len(done)} of {len(grid(study))}", flush=True)


def _train(study: Study, point: Mapping[str, Value], data: str) -> list[float]:
    os.nice(5)
    settings = {**study.settings, "dataset_dir": data}
    plan = Plan(Bundle.find(study.bundle), settings, "iou", study.epochs, threads=1)
    with tempfile.TemporaryDirectory() as output:
        try:
            values = [float(result["iou"]) for result in finish_trial(point, plan, output)]
        except RuntimeError:  # MONAI's wrapper of an infinite loss
            values = []
    return values + [0.0] * (study.epochs - len(values))


def _write(path: Path, study: Study, table: Mapping[Key, list[float]]) -> None:
    names = [*study.space, "seed"]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, *(f"epoch_{e}" for e in range(1, study.epochs + 1))])
        for key, values in sorted(table.items()):
            point = dict(key)
            writer.writerow([*(point[name] for name in names), *(f"{value:.4f}" for value in values)])


if __name__ == "__main__":
    record(workers=os.cpu_count() or 1)
