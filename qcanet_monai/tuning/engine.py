"""Run of a study's trials on Ray Tune, reported to the ledger and to MLflow."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from qcanet_monai.errors import QCANetError, StudyError, root_cause
from qcanet_monai.io.suppress_logs import log_level
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.gpus import Packing
from qcanet_monai.tuning.ledger import Entry, Ledger
from qcanet_monai.tuning.progress import Progress, TrialState, best_of, pareto_front
from qcanet_monai.tuning.record import StudyRecord
from qcanet_monai.tuning.storage import delete, exists
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import RESUME, Plan, network_cost, train_trial

os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1e9")  # the ledger replaces Ray's snapshots
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # otherwise Ray prints its own tables

from ray import tune
from ray.tune.experiment import Trial

from qcanet_monai.tuning.hooks import Clock, Hooks, Proposals, name_of, reason_of
from qcanet_monai.tuning.search import NAME, Mirror, Proposer, build_scheduler, replay

Watch = Callable[[Progress], None]
SHARE = "_gpu"  # key of a trial's configuration: its GPUs
KEPT = 5  # best trials that keep their checkpoints


class Engine:
    """Trials of one study: starts them, and records what they report.

    Attributes
    ----------
    stopped : StudyError or None
        Reason why the search ended early, other than an interrupt or the study's hours.
    """

    def __init__(
        self,
        study: Study,
        plan: Plan,
        folder: StudyFolder,
        record: StudyRecord,
        watch: Watch,
        packing: Packing,
    ) -> None:
        self.study, self.plan, self.folder, self.record, self.watch = study, plan, folder, record, watch
        self.packing = packing
        self.ledger = Ledger(folder.root / "ledger.jsonl")
        self.begun = time.time()
        self.stopped: Exception | None = None
        self._shown = 0.0
        self._alike: Counter[str] = Counter()
        # errors that a person has mended by now: these trials run again
        for entry in [e for e in self.ledger.entries.values() if e.status == "over" and e.retry]:
            self.ledger.again(entry.name)
        self._waiting = [entry for entry in self.ledger.entries.values() if entry.status != "over"]
        self.left = len(self._waiting) + max(0, study.trials - len(self.ledger.entries))

    def run(self) -> None:
        """Run the trials that are left on the connected cluster.

        Raises
        ------
        StudyError
            If the study cannot go on; a later resume continues it.
        """
        if not self.left or self.out_of_time:
            return
        self.ledger.start()
        self.proposer = Proposer(self.study, self.plan.objective, self.ledger, self.excess)
        self.mirror = Mirror(self.study, self.folder.name, self.folder.root / "optuna.db")
        before = [self.proposer.shown(e) for e in self.ledger.entries.values() if e.status == "over"]
        self.record.later(self.mirror.add, before)
        for entry in self._waiting:  # a killed session may not have told MLflow all; steps must come in order
            state = entry.state(self.plan.objective, self.plan.epochs)
            for result in entry.results:
                self.record.later(self.record.epoch, state, result)
        scheduler = build_scheduler(self.study, self.plan.objective)
        replay(scheduler, self.ledger)
        cpu = self.study.resources.cpu
        trainable = tune.with_resources(
            tune.with_parameters(train_trial, plan=self.plan),
            lambda config: {"cpu": cpu, "gpu": config[SHARE]},
        )
        session = next(n for n in range(1, 10_000) if not exists(self.folder.uri(f"ray/{n}")))
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=Proposals(metric=self.plan.objective, mode="max"),
                scheduler=scheduler,
                num_samples=-1,  # until `complete`
                max_concurrent_trials=self.study.max_concurrent,
                reuse_actors=True,
                trial_dirname_creator=name_of,
            ),
            run_config=tune.RunConfig(
                name=str(session),
                storage_path=self.folder.uri("ray"),
                failure_config=tune.FailureConfig(max_failures=self.study.failures),
                callbacks=[Hooks()],
                stop=Clock(),
                verbose=0,
            ),
        )
        Hooks.current = self
        try:
            with log_level(logging.CRITICAL, "ray", "ray.tune", "ray.train"):  # a full disk gives 570 lines
                tuner.fit()
        except QCANetError:
            raise
        except Exception as error:
            reason = str(root_cause(error)).splitlines() or [type(error).__name__]
            self.stopped = self.stopped or StudyError(
                f"the search stopped: {reason[0]}; mend the cause, then continue with --resume"
            )
        finally:
            self.watch(self.progress())
        if self.stopped is not None:
            raise self.stopped

    def excess(self, config: Mapping[str, Any]) -> float:
        """Return by what fraction a network exceeds the limit of parameters."""
        limit = self.plan.max_parameters
        if limit is None:
            return 0.0
        parameters, _ = network_cost(self.plan.bundle, self.plan.overrides(config))
        return parameters / limit - 1

    @property
    def out_of_time(self) -> bool:
        """True once the study has run for its hours, in all sessions together."""
        return bool(self.study.hours) and self.ledger.elapsed >= 3600 * float(self.study.hours or 0)

    def safely(self, step: str, *arguments: Any) -> None:
        """Handle an event of Ray; end the search in order on an error."""
        try:
            getattr(self, step)(*arguments)
        except QCANetError as error:
            self.stop(error)

    def stop(self, error: Exception) -> None:
        """End the search as an interrupt does, so that trials can continue later."""
        if self.stopped is None:
            self.stopped = error
            if threading.current_thread() is not threading.main_thread():
                raise error
            os.kill(os.getpid(), signal.SIGINT)

    def next_trial(self) -> dict[str, Any] | None:
        """Return the configuration of an unfinished or a new trial for Ray."""
        if self.stopped is not None:
            return None
        if self._waiting:
            entry = self._waiting.pop(0)
        elif len(self.ledger.entries) >= self.study.trials:
            return None
        else:
            try:
                entry = self.ledger.add(self.proposer.ask(self.ledger.next_name))
            except QCANetError as error:
                self.stop(error)
                return None
        resume = None if self.checkpoint_of(entry) is None else self.folder.uri(str(entry.checkpoint))
        share = 1.0 if entry.alone else self.packing.share(entry.settings)
        return {**entry.settings, NAME: entry.name, RESUME: resume, SHARE: share}

    @property
    def complete(self) -> bool:
        """True once no trial is left to start, not even one to repeat on a whole GPU."""
        if self.stopped is not None:
            return True
        running = any(entry.status != "over" for entry in self.ledger.entries.values())
        left = self._waiting or len(self.ledger.entries) < self.study.trials
        return not left and not (self.packing.packs and running)

    def checkpoint_of(self, entry: Entry) -> tune.Checkpoint | None:
        """Return a trial's last checkpoint, None without one."""
        place = None if entry.checkpoint is None else self.folder.uri(entry.checkpoint)
        return tune.Checkpoint(place) if place is not None and exists(place) else None

    def started(self, trial: Trial) -> None:
        """Record the start of a trial."""
        self.record.later(self.record.child, self._state(trial, status="running"))

    def reported(self, trial: Trial, result: dict[str, Any]) -> None:
        """Record an epoch of a trial."""
        entry = self._entry(trial)
        values = result["report"]
        self.ledger.result(entry.name, values)
        if not values.get("failure"):
            self.proposer.report(entry.name, values)
        self.record.later(self.record.epoch, self._state(trial), values)

    def saved(self, trial: Trial, checkpoint: tune.Checkpoint) -> None:
        """Record a checkpoint, and delete the one before.

        Ray would delete it too (``num_to_keep``), but write its snapshot each time.
        """
        entry = self._entry(trial)
        before = self.checkpoint_of(entry)
        # the same storage, so that paths compare: <root>/ray/SESSION/TRIAL/checkpoint_000001
        self.ledger.checkpoint(entry.name, "/".join(["ray", *PurePosixPath(checkpoint.path).parts[-3:]]))
        if before is not None and before.path != checkpoint.path:
            delete(before)

    def ended(self, trial: Trial) -> None:
        """Record the end of a trial, and stop after many like failures."""
        entry = self._entry(trial)
        last = entry.results[-1] if entry.results else {}
        failure = str(last.get("failure") or "")
        retry = bool(last.get("retry"))
        if trial.status == Trial.ERROR and not failure:
            failure, retry = reason_of(trial), True
        self.ledger.end(entry.name, failure, retry=retry)
        if last.get("too_large") and not entry.alone and 0 < trial.config[SHARE] < 1:
            self.ledger.again(entry.name, alone=True)
            self._waiting.append(entry)
            return
        self.proposer.tell(entry)
        self.record.later(self.mirror.add, [self.proposer.shown(entry)])
        self.record.later(self.record.end, self._state(trial))
        states = self.states()
        self._progressed(entry, states)
        self._prune(states)
        if failure and retry:
            self._alike[kind := re.sub(r"\d+", "0", failure)] += 1
            if (count := self._alike[kind]) >= self.study.max_failures:
                raise StudyError(
                    f"the study stopped, because {count} of {len(self.ledger.entries)} trials failed alike: "
                    f"{failure}; mend the cause, then continue with --resume"
                )

    def _progressed(self, entry: Entry, states: Sequence[TrialState]) -> None:
        """Record the best so far, and pictures if it is new and has its full budget."""
        best, ended = best_of(states), sum(state.over for state in states)
        if best is None:
            return
        self.record.later(self.record.progress, ended, best.value)
        checkpoint = self.checkpoint_of(entry)
        if best.id == entry.name and best.status == "finished" and checkpoint is not None:
            self.record.later(self.record.pictures, best, checkpoint, ended)

    def stepped(self) -> None:
        """Show the progress, at most twice a second."""
        now = time.time()
        if now - self._shown >= 0.5:
            self._shown = now
            self.watch(self.progress())

    def states(self) -> list[TrialState]:
        """Return the states of all trials."""
        return [entry.state(self.plan.objective, self.plan.epochs) for entry in self.ledger.entries.values()]

    def progress(self) -> Progress:
        """Return the study's progress."""
        hours = self.study.hours
        deadline = time.time() + 3600 * hours - self.ledger.elapsed if hours else None
        return Progress(self.states(), self.study.trials, self.study.epochs, self.begun, deadline)

    def _entry(self, trial: Trial) -> Entry:
        return self.ledger.entries[trial.config[NAME]]

    def _state(self, trial: Trial, **changes: Any) -> TrialState:
        return replace(self._entry(trial).state(self.plan.objective, self.plan.epochs), **changes)

    def _prune(self, states: Sequence[TrialState]) -> None:
        """Delete the checkpoints of ended trials, except the best and the front."""
        sound = sorted((s for s in states if s.status != "failed"), key=lambda s: s.rank, reverse=True)
        front = pareto_front(states) if self.study.cost_objective else []
        kept = {state.id for state in (*sound[:KEPT], *front)}
        for state in states:
            entry = self.ledger.entries[state.id]
            if state.over and not entry.retry and state.id not in kept and entry.checkpoint is not None:
                checkpoint = self.checkpoint_of(entry)
                self.ledger.checkpoint(entry.name, None)
                if checkpoint is not None:
                    delete(checkpoint)
