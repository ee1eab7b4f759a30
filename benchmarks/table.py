"""A table of real short trainings: every setting of a study on a grid, the objective after each epoch."""

from __future__ import annotations

import csv
import math
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from qcanet_monai.io import replacing
from qcanet_monai.tuning.study import Study, Value, read_study
from qcanet_monai.tuning.trial import Plan, finish_trial
from qcanet_monai.workflows.models import bundle_folder
from qcanet_monai.workflows.simulate import simulate_dataset

HERE = Path(__file__).parent
STUDY = HERE / "hpo.yaml"
TABLE = HERE / "hpo.csv"
LEVELS = 5  # learning rates, evenly spread over the logarithm

Key = tuple[tuple[str, str], ...]


def snap(study: Study, settings: Mapping[str, Value]) -> dict[str, Value]:
    """The grid's point next to some settings: only the learning rate is continuous."""
    domain = next(d for d in study.variants("learning_rate") if d.applies(settings))
    low, high = math.log(domain.low or 1), math.log(domain.high or 1)
    level = round((math.log(float(settings["learning_rate"])) - low) / (high - low) * (LEVELS - 1))
    rate = math.exp(low + (high - low) * min(max(level, 0), LEVELS - 1) / (LEVELS - 1))
    return {**settings, "learning_rate": float(f"{rate:.6g}")}


def grid(study: Study) -> list[dict[str, Value]]:
    """Every point of the table."""
    points = study.combinations(*(key for key in study.space if key != "learning_rate"))
    found: dict[Key, dict[str, Value]] = {}
    for point in points:
        domain = next(d for d in study.variants("learning_rate") if d.applies(point))
        low, high = float(domain.low or 1), float(domain.high or 1)
        for level in range(LEVELS):
            rate = low * (high / low) ** (level / (LEVELS - 1))
            snapped = snap(study, {**point, "learning_rate": rate})
            found[key_of(snapped)] = snapped
    return list(found.values())


def key_of(settings: Mapping[str, Value]) -> Key:
    """A point as the table's key."""
    return tuple(sorted((name, str(value)) for name, value in settings.items()))


def read_table(study: Study, path: Path = TABLE) -> dict[Key, list[float]]:
    """The recorded objective after epoch 1, 2, … of every point."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = list(study.space)
    return {
        tuple(sorted((n, row[n]) for n in names)): [
            float(row[f"epoch_{e}"]) for e in range(1, study.epochs + 1)
        ]
        for row in rows
    }


def record(path: Path = TABLE, workers: int = 1) -> None:
    """Train every point and write the table; points that are there already are kept."""
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
    plan = Plan(str(bundle_folder(study.bundle)), settings, "iou", study.epochs, threads=1)
    with tempfile.TemporaryDirectory() as output:
        try:
            values = [float(result["iou"]) for result in finish_trial(point, plan, output)]
        except RuntimeError:  # the loss became infinite: MONAI wraps what a training raises
            values = []
    return values + [0.0] * (study.epochs - len(values))


def _write(path: Path, study: Study, table: Mapping[Key, list[float]]) -> None:
    names = list(study.space)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, *(f"epoch_{e}" for e in range(1, study.epochs + 1))])
        for key, values in sorted(table.items()):
            point = dict(key)
            writer.writerow([*(point[name] for name in names), *(f"{value:.4f}" for value in values)])


if __name__ == "__main__":
    record()
