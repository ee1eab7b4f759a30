"""Run of a study's trials on Ray Tune, with reports to MLflow and to the caller."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage

from qcanet_monai.errors import StudyError
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.progress import Progress, TrialState, state_of
from qcanet_monai.tuning.record import StudyRecord
from qcanet_monai.tuning.space import Space, starting_points
from qcanet_monai.tuning.study import Sampler, Study
from qcanet_monai.tuning.trial import Plan, train_trial

os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")  # a killed driver loses about 1 s of the search
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # otherwise Ray prints its own tables

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

Watch = Callable[[Progress], None]


class _Listener(Callback):
    """Ray callback that calls the running engine; stateless, because Ray pickles it."""

    current: Any = None

    def on_trial_start(self, **info: Any) -> None:
        _Listener.current.trial_started(info["trial"])

    def on_trial_result(self, **info: Any) -> None:
        _Listener.current.trial_reported(info["trial"], info["result"])

    def on_trial_complete(self, **info: Any) -> None:
        _Listener.current.trial_ended(info["trial"])

    on_trial_error = on_trial_complete

    def on_step_end(self, **info: Any) -> None:
        _Listener.current.stepped(info["trials"])

    def on_experiment_end(self, **info: Any) -> None:
        _Listener.current.ended(info["trials"])


class Engine:
    """Observer of a study's trials that reports to MLflow and to `watch`."""

    def __init__(self, study: Study, plan: Plan, record: StudyRecord, watch: Watch) -> None:
        self.study, self.plan, self.record, self.watch = study, plan, record, watch
        self.begun = time.time()
        self._shown = 0.0
        self.trials: list[Trial] = []
        self.histories: dict[str, list[dict[str, Any]]] = {}

    def _state(self, trial: Trial, *, over: bool = False) -> TrialState:
        return state_of(trial, self.plan.objective, self.plan.epochs, over=over)

    def trial_started(self, trial: Trial) -> None:
        """Record the start of a trial."""
        self.record.safely(self.record.child, self._state(trial))

    def trial_ended(self, trial: Trial) -> None:
        """Record the end of a trial, successful or not."""
        self.record.safely(self.record.end, self._state(trial, over=True))

    def trial_reported(self, trial: Trial, result: dict[str, Any]) -> None:
        """Record an epoch of a trial."""
        self.record.safely(self.record.epoch, self._state(trial), result)

    def stepped(self, trials: Sequence[Trial]) -> None:
        """Show the progress, at most twice a second."""
        now = time.time()
        if now - self._shown >= 0.5:
            self._shown = now
            self.watch(self.progress([self._state(trial) for trial in trials]))

    def ended(self, trials: Sequence[Trial]) -> None:
        """Keep the trials of the ended search and show the final progress."""
        self.trials = list(trials)
        self.watch(self.progress(self.states()))

    def states(self) -> list[TrialState]:
        """Return the states of all trials; empty before the search has ended."""
        return [self._state(trial) for trial in self.trials]

    def progress(self, states: Sequence[TrialState]) -> Progress:
        """Return the study's progress, given the states of its trials."""
        deadline = self.begun + 3600 * self.study.hours if self.study.hours else None
        return Progress(states, self.study.trials, self.study.epochs, self.begun, deadline)


def run_trials(study: Study, plan: Plan, folder: StudyFolder, engine: Engine, name: str) -> None:
    """Run the remaining trials; raise StudyError if Ray cannot restore the study."""
    _Listener.current = engine
    resources = {"cpu": study.resources.cpu, "gpu": study.resources.gpu}
    trainable = tune.with_resources(tune.with_parameters(train_trial, plan=plan), resources)
    experiment = folder.root / "ray"
    if experiment.exists():
        if not tune.Tuner.can_restore(str(experiment)):
            raise StudyError(f"{experiment} cannot be continued: remove {folder.root} and start again")
        tuner = tune.Tuner.restore(str(experiment), trainable=trainable)
    else:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=build_search(study, plan.objective, name, folder.root / "optuna.db"),
                scheduler=build_scheduler(study, plan.objective),
                num_samples=study.trials,
                max_concurrent_trials=study.max_concurrent,
                time_budget_s=3600 * study.hours if study.hours else None,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(folder.root),
                failure_config=tune.FailureConfig(max_failures=study.failures),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                callbacks=[_Listener(), JsonLoggerCallback()],
                verbose=0,
            ),
        )
    for result in tuner.fit():
        history = result.metrics_dataframe
        if history is not None and result.metrics:
            rows = history.to_dict("records")
            engine.histories[result.metrics["trial_id"]] = [
                {str(k): v for k, v in row.items()} for row in rows
            ]


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
