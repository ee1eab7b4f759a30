"""Search of a study: Optuna proposes settings, ASHA stops poor trials early."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FixedTrial, TrialState, create_trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from qcanet_monai.tuning.ledger import Entry, Ledger
from qcanet_monai.tuning.space import Space, starting_points
from qcanet_monai.tuning.study import Sampler, Study

NAME = "_trial"  # key of a trial's configuration: its name in the ledger


def optuna_url(database: Path) -> str:
    """Return the URL of a study's database, as ``optuna-dashboard`` expects it."""
    return f"sqlite:///{database}"


def build_sampler(settings: Sampler, *, offset: int = 0) -> optuna.samplers.BaseSampler:
    """Build the Optuna sampler; `offset` moves the seed, for new points on resume."""
    seed = settings.seed + 1_000_003 * offset
    if settings.name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.name == "gp":
        return optuna.samplers.GPSampler(  # draws conditional settings at random
            seed=seed, n_startup_trials=settings.startup_trials, warn_independent_sampling=False
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=settings.startup_trials,
            multivariate=True,
            group=True,
            constant_liar=True,
        )


class Proposer:
    """Optuna's study: proposes settings, and learns their values.

    Parameters
    ----------
    study, objective, name
        The study, its objective and its name.
    database
        SQLite file, created if absent; in memory if None.
    offset
        Number of trials so far.
    """

    def __init__(
        self, study: Study, objective: str, name: str, database: Path | None, *, offset: int = 0
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study, self.objective, self.space = study, objective, Space(study)
        self.costs = ["multiply_adds"] if study.cost_objective else []
        self.optuna = optuna.create_study(
            storage=RDBStorage(optuna_url(database)) if database else None,
            sampler=build_sampler(study.sampler, offset=offset),
            study_name=name,
            directions=["maximize", *["minimize" for _ in self.costs]],
            load_if_exists=True,
        )
        if not offset and not self.optuna.get_trials(deepcopy=False):
            for point in starting_points(study):
                self.optuna.enqueue_trial(point)
        self._asked: dict[str, optuna.Trial] = {}

    def ask(self, name: str) -> dict[str, Any]:
        """Return the parameters of a new trial."""
        trial = self.optuna.ask()
        trial.set_user_attr(NAME, name)
        self.space(trial)
        self._asked[name] = trial
        return dict(trial.params)

    def report(self, name: str, result: Mapping[str, Any]) -> None:
        """Record the objective after an epoch, for dashboards."""
        trial = self._asked.get(name)
        if trial is not None and not self.costs:  # Optuna has no intermediate values of several objectives
            trial.report(float(result[self.objective]), int(result["epoch"]))

    def tell(self, name: str, config: Mapping[str, Any], result: Mapping[str, Any] | None) -> None:
        """Record the final value of a trial; None for one without a value."""
        names = [self.objective, *self.costs]
        known = result is not None and all(result.get(name) is not None for name in names)
        values = [float(result[name]) for name in names] if result is not None and known else None
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        trial = self._asked.pop(name, None)
        if trial is not None:
            self.optuna.tell(trial, values, state=state)
            return
        fixed = FixedTrial(dict(config))  # asked in an earlier session
        self.space(fixed)
        self.optuna.add_trial(
            create_trial(
                params=dict(config),
                distributions=fixed.distributions,
                values=values,
                state=state,
                user_attrs={NAME: name},
            )
        )

    def restore(self, entries: Mapping[str, Entry]) -> None:
        """Bring the database in line with the ledger: add ended trials, end lost ones."""
        known = set()
        for trial in self.optuna.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                self.optuna.tell(trial.number, state=TrialState.FAIL)
            elif NAME in trial.user_attrs:
                known.add(trial.user_attrs[NAME])
        for entry in entries.values():
            if entry.status == "over" and entry.name not in known:
                self.tell(entry.name, entry.config, value_of(entry))


def value_of(entry: Entry) -> Mapping[str, Any] | None:
    """Return the last result of a trial; None if it failed by no fault of its own."""
    return entry.results[-1] if entry.results and not entry.retry else None


def open_proposer(study: Study, objective: str, name: str, database: Path, ledger: Ledger) -> Proposer:
    """Open a study's database, or a new one if it is damaged, and sync the ledger."""
    offset = len(ledger.entries)
    try:
        proposer = Proposer(study, objective, name, database, offset=offset)
        proposer.restore(ledger.entries)
    except Exception as error:  # SQLAlchemy and Optuna raise many types for a damaged file
        if not ledger.entries or not database.is_file():
            raise
        database.replace(database.with_suffix(".damaged.db"))
        print(f"qcanet: {database} was damaged and is rebuilt from the ledger: {error}".splitlines()[0])
        proposer = Proposer(study, objective, name, database, offset=offset)
        proposer.restore(ledger.entries)
    return proposer


class _Rungs(AsyncHyperBandScheduler):
    """ASHA that knows trials by their ledger names, which, unlike Ray's ids, last."""

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        super().on_trial_add(controller, _named(trial))

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return super().on_trial_result(controller, _named(trial), result)

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(controller, _named(trial), result)

    def on_trial_remove(self, controller: Any, trial: Any) -> None:
        super().on_trial_remove(controller, _named(trial))


def _named(trial: Any) -> Any:
    return SimpleNamespace(trial_id=getattr(trial, "config", {}).get(NAME, trial.trial_id))


def build_scheduler(study: Study, objective: str) -> TrialScheduler:
    """Build the scheduler; its rungs count epochs, so that trials can resume."""
    if study.scheduler.name == "none":
        return FIFOScheduler()
    return _Rungs(
        time_attr="epoch",
        metric=objective,
        mode="max",
        max_t=study.epochs,
        grace_period=study.scheduler.grace_epochs,
        reduction_factor=study.scheduler.reduction_factor,
    )


def replay(scheduler: TrialScheduler, ledger: Ledger) -> None:
    """Fill the scheduler's rungs with the results of earlier sessions."""
    for entry in ledger.entries.values() if isinstance(scheduler, _Rungs) else ():
        trial = SimpleNamespace(trial_id=entry.name)
        scheduler.on_trial_add(None, trial)
        for result in entry.results:
            scheduler.on_trial_result(None, trial, result)
        scheduler.on_trial_remove(None, trial)
