"""Search of a study: Optuna proposes settings, ASHA stops poor trials early."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from qcanet_monai.tuning.ledger import Entry, Ledger
from qcanet_monai.tuning.space import Space, starting_points
from qcanet_monai.tuning.study import Sampler, Study
from qcanet_monai.tuning.trial import WORST

SIZE = "size"  # constraint: above 0 for settings that are too large
TRIES = 100  # proposals of networks that are too large, before one fails as a trial
AGAIN = 3  # best trials of a warm start that a study tries again first, on its own data and seed
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
    """Optuna's study in memory: proposes settings, and learns their values.

    Parameters
    ----------
    study, objective
        The study and its objective.
    ledger
        Trials of earlier sessions and of other studies; those that have ended are learnt.
    excess
        By how much a network is too large under some settings; the sampler learns it as a constraint, and no
        trial is spent on it.
    """

    def __init__(
        self,
        study: Study,
        objective: str,
        ledger: Ledger | None = None,
        excess: Callable[[Mapping[str, Any]], float] = lambda _config: 0.0,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study, self.objective, self.space, self.excess = study, objective, Space(study), excess
        entries = [] if ledger is None else [*ledger.entries.values()]
        self.optuna = optuna.create_study(
            sampler=build_sampler(study.sampler, offset=len(entries)), directions=directions(study)
        )
        for event in [] if ledger is None else ledger.known:
            known = Entry("warm start", event["settings"])
            known.results, known.status = [event["values"]], "over"
            entries.append(known)
        for entry in entries:
            if entry.status == "over":
                self.optuna.add_trial(self.frozen(entry))
        self._given = 0  # points that are tried before any other
        if ledger is None or not ledger.entries:
            others = [] if ledger is None else ledger.known
            best = sorted(others, key=lambda event: float(event["values"][objective]), reverse=True)[:AGAIN]
            known_best = [self.space.parameters(event["settings"]) for event in best]
            given = [*known_best, *starting_points(study)]
            for point in given:
                self.optuna.enqueue_trial(point)
            self._given = len(given)
        self._asked: dict[str, optuna.Trial] = {}

    def ask(self, name: str) -> dict[str, Any]:
        """Return the settings of a new trial."""
        for _ in range(TRIES):
            trial = self.optuna.ask()
            settings = self.space(trial)
            excess = self.excess(settings)
            if excess <= 0 or self._given > 0:  # a starting point fails as a trial, with its reason
                break
            trial.set_constraint(SIZE, excess)  # once: Optuna ignores a second value
            self.optuna.tell(trial, [WORST, math.inf][: len(self.optuna.directions)])
        self._given -= 1
        self._asked[name] = trial
        return settings

    def report(self, name: str, result: Mapping[str, Any]) -> None:
        """Record the objective after an epoch."""
        if name in self._asked and len(self.optuna.directions) == 1:
            self._asked[name].report(float(result[self.objective]), int(result["epoch"]))

    def tell(self, entry: Entry) -> None:
        """Learn the value of a trial that has ended."""
        frozen = self.frozen(entry)
        if entry.name in self._asked:
            asked = self._asked.pop(entry.name)
            asked.set_constraint(SIZE, frozen.constraints[SIZE])
            self.optuna.tell(asked, frozen.values, state=frozen.state)
        else:  # asked in an earlier session
            self.optuna.add_trial(frozen)

    def shown(self, entry: Entry) -> FrozenTrial:
        """Convert a trial of the ledger for people; see ``Space.shown``."""
        return self._frozen(entry, self.space.shown(entry.settings))

    def frozen(self, entry: Entry) -> FrozenTrial:
        """Convert a trial of the ledger; no value if it failed by no fault of its own."""
        fixed = FixedTrial(self.space.parameters(entry.settings))
        self.space(fixed)
        return self._frozen(entry, fixed)

    def _frozen(self, entry: Entry, fixed: FixedTrial) -> FrozenTrial:
        last = entry.results[-1] if entry.results and not entry.retry else {}
        names = [self.objective, "multiply_adds"][: len(self.optuna.directions)]
        known = all(last.get(name) is not None for name in names)
        several = len(names) > 1  # Optuna has no intermediate values of several objectives
        return create_trial(
            params=fixed.params,
            distributions=fixed.distributions,
            values=[float(last[name]) for name in names] if known else None,
            state=TrialState.COMPLETE if known else TrialState.FAIL,
            user_attrs={"trial": entry.name},
            constraints={SIZE: self._excess(last)},
            intermediate_values={}
            if several
            else {int(r["epoch"]): float(r[self.objective]) for r in entry.results if not r.get("failure")},
        )

    def _excess(self, last: Mapping[str, Any]) -> float:
        if last.get("too_large"):  # out of memory
            return 1.0
        known, limit = last.get("parameters"), self.study.max_parameters
        return known / limit - 1 if known and limit else 0.0


def directions(study: Study) -> list[str]:
    """Return Optuna's directions: high objective and, if asked for, low cost."""
    return ["maximize", "minimize"] if study.cost_objective else ["maximize"]


class Mirror:
    """Copy of the ended trials in a SQLite file, for ``optuna-dashboard`` only.

    Parameters
    ----------
    database, name
        File, rewritten by each session, and name of the study in the file.
    """

    def __init__(self, study: Study, name: str, database: Path) -> None:
        self.study, self.name, self.database = study, name, database
        self._optuna: optuna.Study | None = None
        self._failed = False

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        """Add trials; after an error, such as a full disk, do nothing more."""
        if self._failed:
            return
        try:
            if self._optuna is None:
                self.database.unlink(missing_ok=True)
                self._optuna = optuna.create_study(
                    storage=RDBStorage(optuna_url(self.database)),
                    study_name=self.name,
                    directions=directions(self.study),
                )
            self._optuna.add_trials(trials)
        except Exception:  # SQLAlchemy and Optuna raise many types
            self._failed = True


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
        grace_period=study.first_rung,
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
