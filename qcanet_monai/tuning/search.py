"""Sampler and scheduler of a study for Ray Tune."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from qcanet_monai.tuning.space import Space, starting_points
from qcanet_monai.tuning.study import Sampler, Study


def optuna_url(database: Path) -> str:
    """Return the URL of a study's database, as ``optuna-dashboard`` expects it."""
    return f"sqlite:///{database}"


def build_sampler(settings: Sampler) -> optuna.samplers.BaseSampler:
    """Build the Optuna sampler."""
    if settings.name == "random":
        return optuna.samplers.RandomSampler(seed=settings.seed)
    if settings.name == "gp":
        return optuna.samplers.GPSampler(  # draws conditional settings at random
            seed=settings.seed, n_startup_trials=settings.startup_trials, warn_independent_sampling=False
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=settings.seed,
            n_startup_trials=settings.startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
        )


def build_search(study: Study, objective: str, name: str, database: Path | None) -> OptunaSearch:
    """Build the search algorithm, stored in `database` or, if None, in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options: dict[str, Any] = {"metric": objective, "mode": "max"}
    if study.cost_objective:
        options = {"metric": [objective, "multiply_adds"], "mode": ["max", "min"]}
    return OptunaSearch(
        space=Space(study),
        sampler=build_sampler(study.sampler),
        storage=RDBStorage(optuna_url(database)) if database else None,
        study_name=name,
        points_to_evaluate=starting_points(study) or None,
        **options,
    )


def build_scheduler(study: Study, objective: str) -> TrialScheduler:
    """Build the scheduler; its rungs count epochs, so that trials can resume."""
    if study.scheduler.name == "none":
        return FIFOScheduler()
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric=objective,
        mode="max",
        max_t=study.epochs,
        grace_period=study.scheduler.grace_epochs,
        reduction_factor=study.scheduler.reduction_factor,
    )
