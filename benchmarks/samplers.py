"""Compare samplers and schedulers on tables: python -m benchmarks.samplers.

Each pair searches until it reaches random search's final best value, at most for random search's budget; see
``benchmarks.hpo`` for the rules. The rules of Optuna's AutoSampler would take GP here. The figures of a row,
over the seeds of one table:

- reached: share of seeds that reach the value within the budget.
- median and mean: epochs needed, over the budget; seeds that do not reach the value count as 1.
- regret: the table's best value less the best after a quarter of the budget; the median.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from benchmarks.hpo import SEEDS, TABLES, searched, target_of, with_seed
from benchmarks.table import Table
from qcanet_monai.tuning.search import build_scheduler
from qcanet_monai.tuning.study import Study

Changes = Mapping[str, Mapping[str, Any]]


class Growing(AsyncHyperBandScheduler):
    """ASHA with a growing budget, after PASHA (Bohdal et al. 2023).

    No trial passes the highest rung in use. The next one comes into use once the two best trials of the
    highest rung are in another order there than one rung below.
    """

    def __init__(self, *, rungs: list[int], **options: Any) -> None:
        super().__init__(**options)
        self._rungs, self._top = rungs, min(1, len(rungs) - 1)
        self._seen: dict[int, dict[str, float]] = {rung: {} for rung in rungs}

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial at the highest rung in use, and count what it shows."""
        epoch, value = int(result[self._time_attr]), float(result[str(self._metric)])
        decision = super().on_trial_result(controller, trial, result)
        if epoch not in self._seen:
            return decision
        self._seen[epoch][trial.trial_id] = value
        top, below = self._rungs[self._top], self._rungs[self._top - 1]
        if epoch == top and decision != self.STOP:
            if self._top + 1 < len(self._rungs) and self._unstable(self._seen[top], self._seen[below]):
                self._top += 1
            else:
                decision = self.STOP
        return decision

    def _unstable(self, above: Mapping[str, float], below: Mapping[str, float]) -> bool:
        best = sorted(above, key=lambda name: above[name], reverse=True)[:2]
        return len(best) == 2 and below[best[0]] < below[best[1]]


def growing(study: Study, objective: str) -> TrialScheduler:
    """Build the growing budget with the study's rungs."""
    rungs = [study.first_rung]
    while rungs[-1] * study.scheduler.reduction_factor < study.epochs:
        rungs.append(rungs[-1] * study.scheduler.reduction_factor)
    return Growing(rungs=[*rungs, study.epochs], **_asha(study, objective))


def brackets(study: Study, objective: str) -> TrialScheduler:
    """Build Hyperband's brackets: ASHA with three first rungs."""
    return AsyncHyperBandScheduler(brackets=3, **_asha(study, objective))


def median_stopping(study: Study, objective: str) -> TrialScheduler:
    """Build Vizier's rule: a trial below the median of the others' means is stopped."""
    return MedianStoppingRule(
        time_attr="epoch",
        metric=objective,
        mode="max",
        grace_period=study.first_rung,
        min_samples_required=5,
    )


def _asha(study: Study, objective: str) -> dict[str, Any]:
    return {
        "time_attr": "epoch",
        "metric": objective,
        "mode": "max",
        "max_t": study.epochs,
        "grace_period": study.first_rung,
        "reduction_factor": study.scheduler.reduction_factor,
    }


Builder = Callable[[Study, str], TrialScheduler]
SCHEDULERS: dict[str, tuple[Changes, Builder]] = {
    "none": ({"scheduler": {"name": "none"}}, build_scheduler),
    "asha, from epoch 1": ({"scheduler": {"grace_epochs": 1}}, build_scheduler),
    "asha": ({}, build_scheduler),
    "asha, from epoch 2": ({"scheduler": {"grace_epochs": 2}}, build_scheduler),
    "asha, a half stays": ({"scheduler": {"reduction_factor": 2}}, build_scheduler),
    "hyperband": ({"scheduler": {"grace_epochs": 1}}, brackets),
    "median stopping": ({}, median_stopping),
    "growing": ({"scheduler": {"grace_epochs": 1}}, growing),
}
SAMPLERS = ("random", "tpe", "gp")  # GP takes an hour for all tables
COLUMNS = ("table", "sampler", "scheduler", "seeds", "reached", "median", "mean", "regret")


def pairs(samplers: Sequence[str]) -> list[tuple[str, str]]:
    """List the pairs of sampler and scheduler that are compared."""
    others = [("tpe", name) for name in SCHEDULERS if name != "asha"]
    return [*((sampler, "asha") for sampler in samplers), *others]


def search(name: str, sampler: str, scheduler: str, seed: int) -> tuple[float, float]:
    """Return the epochs to random search's best, over its budget, and the regret."""
    warnings.simplefilter("ignore")
    table = Table(name)
    study = table.study
    goal, budget = target_of(table, seed), study.trials * study.epochs
    changes, build = SCHEDULERS[scheduler]
    own = with_seed(study, seed + 1000, sampler={"name": sampler}, **changes)
    np.random.seed(seed)  # noqa: NPY002  # Hyperband draws its brackets from this state
    reached, best, early = budget + 1, 0.0, 0.0
    for spent, value in enumerate(searched(own, table, [], scheduler=build(own, table.objective)), 1):
        best = max(best, value)
        early = best if spent <= budget // 4 else early
        reached = min(reached, spent) if value >= goal else reached
        if spent == budget or (spent >= budget // 4 and reached <= budget):
            break
    return reached / budget, table.best - early


def main() -> None:
    """Write the rows as CSV to standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tables", nargs="*", default=TABLES)
    parser.add_argument("--samplers", nargs="*", default=SAMPLERS)
    options = parser.parse_args()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    seeds = range(options.seeds)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for name in options.tables:
            for sampler, scheduler in pairs(options.samplers):
                jobs = [pool.submit(search, name, sampler, scheduler, seed) for seed in seeds]
                found = [job.result() for job in jobs]
                ratios = [min(ratio, 1.0) for ratio, _ in found]
                figures = (
                    statistics.fmean(ratio <= 1 for ratio, _ in found),
                    statistics.median(ratios),
                    statistics.fmean(ratios),
                    statistics.median(regret for _, regret in found),
                )
                rounded = [f"{figure:.3f}" for figure in figures]
                writer.writerow([name, sampler, scheduler, len(seeds), *rounded])
                sys.stdout.flush()


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main()
