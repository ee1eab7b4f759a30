"""Measure savings and overhead of a search: python -m benchmarks.hpo.

- TPE with ASHA against random search: epochs until a study reaches random search's final best value, over
  the epochs of random search, at most 4. Sampler and scheduler are those of a study on Ray. Tables of real
  short trainings (from ``python -m benchmarks.table``) replace the training, so the figures are exactly
  reproducible.
- A warm start from a study of 30 trials: trials until the study's best value is reached again.
- A warm trial of a real study on Ray against the same training without Ray, in seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml
from mlflow import MlflowClient
from ray.tune.schedulers import TrialScheduler

from benchmarks.table import FOLDER, Table
from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.tuning.ledger import Entry, Ledger
from qcanet_monai.tuning.search import Proposer, build_scheduler
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan, finish_trial
from qcanet_monai.tuning.tune import run_study

SEEDS = 60
TABLES = ("nsn", "ndn", "spindle")
Row = dict[str, Any]


@dataclass(frozen=True)
class Stub:
    """Trial as the schedulers of Ray see it."""

    trial_id: str


def searched(
    study: Study,
    table: Table,
    ended: list[Entry],
    ledger: Ledger | None = None,
    scheduler: TrialScheduler | None = None,
) -> Iterator[float]:
    """Yield the objective after each epoch, without end; collect ended trials."""
    proposer = Proposer(study, table.objective, ledger)
    scheduler = scheduler or build_scheduler(study, table.objective)
    alone: Any = SimpleNamespace(get_live_trials=lambda: [])  # Ray's loop, in which no other trial runs
    for number in itertools.count(1):
        name = str(number)
        settings = proposer.ask(name)
        values = table.curve(settings)
        trial: Any = Stub(name)
        scheduler.on_trial_add(alone, trial)
        result: dict[str, Any] = {}
        for epoch, value in enumerate(values, 1):
            result = {table.objective: value, "epoch": epoch, "training_iteration": epoch}
            yield value
            proposer.report(name, result)
            decision = scheduler.on_trial_result(alone, trial, result)
            if decision == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(alone, trial, result)
        entry = Entry(name, settings)
        entry.results, entry.status = [result], "over"
        proposer.tell(entry)
        ended.append(entry)


def with_seed(study: Study, seed: int, **changes: Any) -> Study:
    """Return the study with another seed, sampler or scheduler."""
    content = study.model_dump()
    content["sampler"] |= {"seed": seed, **changes.get("sampler", {})}
    content["scheduler"] |= changes.get("scheduler", {})
    return Study.model_validate(content)


def target_of(table: Table, seed: int) -> float:
    """Best value of random search, which trains every trial in full."""
    random = with_seed(table.study, seed, sampler={"name": "random"}, scheduler={"name": "none"})
    return max(islice(searched(random, table, []), table.study.trials * table.study.epochs))


def epochs_to_reach(table: Table, seed: int) -> float:
    """Epochs of a study to random search's best, over those of random search."""
    study = table.study
    target, budget, spent = target_of(table, seed), study.trials * study.epochs, 0
    np.random.seed(seed)  # noqa: NPY002  # ASHA draws its brackets from this state
    for spent, value in enumerate(searched(with_seed(study, seed + 1000), table, []), 1):
        if value >= target or spent >= 4 * budget:
            break
    return spent / budget


def search_row(name: str, seeds: int) -> Row:
    """Compare TPE with ASHA to random search, by the median over seeds (ADR 10)."""
    table = Table(name)
    study = table.study
    ratios = sorted(epochs_to_reach(table, seed) for seed in range(seeds))
    return {
        "name": f"{name}: epochs to the best of random search, over its {study.trials * study.epochs}",
        "value": statistics.median(ratios),
        "low": ratios[0],
        "high": ratios[-1],
        "target": 0.35,
        "mean": statistics.fmean(ratios),
        "reached_sooner": sum(ratio < 1 for ratio in ratios) / seeds,
    }


def warm_row(seeds: int = 10, trials: int = 30) -> Row:
    """Count the trials of a warm start to the best of the study it learns from."""
    table = Table("nsn")
    study = table.study
    shares = []
    for seed in range(seeds):
        np.random.seed(seed)  # noqa: NPY002
        first: list[Entry] = []
        values = searched(with_seed(study, seed), table, first)
        best = 0.0
        while len(first) < trials:
            best = max(best, next(values))
        with tempfile.TemporaryDirectory() as temporary:
            ledger = Ledger(Path(temporary) / "ledger.jsonl")
            ledger.start()
            for entry in first:
                ledger.learn(entry.settings, entry.results[-1])
            second: list[Entry] = []
            for value in searched(with_seed(study, seed + 500), table, second, ledger):
                if value >= best or len(second) >= 2 * trials:
                    break
        shares.append((len(second) + 1) / trials)
    shares.sort()
    return {
        "name": f"trials to the best of {trials} trials after a warm start from them, over {trials}",
        "value": statistics.median(shares),
        "low": shares[0],
        "high": shares[-1],
        "target": 0.5,
    }


def overhead_row(trials: int = 6) -> Row:
    """Time warm trials on Ray, then the same training in this process."""
    content = yaml.safe_load((FOLDER / "nsn.yaml").read_text(encoding="utf-8"))
    point = {"depth": 1, "channels": 4, "kernel_size": 3}
    one = {
        "bundle": "nsn",
        "data": content["data"],
        "space": {key: {"choices": [value]} for key, value in point.items()},
        "settings": content["settings"],
        "sampler": {"name": "random"},
        "scheduler": {"name": "none"},
        "trials": trials,
        "epochs": 5,
        "resources": {"cpu": 2},
        "max_concurrent": 1,
    }
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "overhead.yaml").write_text(yaml.safe_dump(one))
        uri = f"sqlite:///{root}/mlflow.db"
        outcome = run_study(root / "overhead.yaml", storage=root, tracking_uri=uri, cache=root / "cache")
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("qcanet-nsn")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], "tags.role = 'trial'")
        ends = sorted(float(run.info.end_time or 0) / 1000 for run in found)
        on_ray = [later - earlier for earlier, later in pairwise(ends)]
        cache = next((root / "cache").iterdir())
        settings = {**content["settings"], "dataset_dir": outcome.data, "cache_dir": str(cache)}
        plan = Plan(Bundle.find("nsn"), settings, "iou", 5, threads=2)
        alone = []
        for _ in range(trials):
            with tempfile.TemporaryDirectory() as output:
                begun = time.perf_counter()
                finish_trial(point, plan, output)
                alone.append(time.perf_counter() - begun)
    direct = statistics.median(alone[1:])  # the first run warms up
    costs = sorted(seconds - direct for seconds in on_ray)
    return {
        "name": f"seconds that Ray adds to a warm trial of {direct:.1f} s",
        "value": statistics.median(costs),
        "low": costs[0],
        "high": costs[-1],
        "target": 1.5,
    }


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="Write the rows to this file as well.")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    rows = [*(search_row(name, options.seeds) for name in TABLES), warm_row(), overhead_row()]
    for row in rows:
        row["holds"] = bool(row["value"] <= row["target"])
        spread = f"{row['low']:.3f} to {row['high']:.3f}"
        verdict = "holds" if row["holds"] else "FAILS"
        print(f"{row['name']}: {row['value']:.3f} ({spread}), at most {row['target']}: {verdict}")
        print(
            "".join(f"  {name} {row[name]:.3f}\n" for name in ("mean", "reached_sooner") if name in row),
            end="",
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
