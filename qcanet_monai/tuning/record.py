"""MLflow record of a study: a parent run with one child run per trial."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml

from qcanet_monai.registry.runs import RunLog, find_runs
from qcanet_monai.registry.store import connect, experiment, suppress_mlflow_logs
from qcanet_monai.tuning.progress import TrialState
from qcanet_monai.tuning.trial import Plan

STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}


class StudyRecord:
    """MLflow runs of a study; a resumed study continues the same runs.

    Existing entries stay unchanged. A store that fails does not stop the study; a final pass writes missing
    entries. The parent and every child run carry `tags`.
    """

    def __init__(
        self, uri: str, experiment_name: str, name: str, study_id: str, plan: Plan, tags: Mapping[str, str]
    ) -> None:
        self.plan, self.study_id, self.lost = plan, study_id, False
        self.tags = {"study": name, **tags}
        with suppress_mlflow_logs():
            self.client = connect(uri)
            self.experiment_id = experiment(self.client, uri, experiment_name)
            self.parent = RunLog(
                self.client, self.experiment_id, {"study_id": study_id, "role": "study"}, name
            )
            self.parent.describe({}, self.tags)
            self.parent.open()
            found = find_runs(self.client, self.experiment_id, {"study_id": study_id, "role": "trial"})
        self._queue: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._found = {run.data.tags["trial_id"]: run for run in found}
        self._children: dict[str, RunLog] = {}

    def child(self, trial: TrialState) -> RunLog:
        """Return the run of a trial; create the run if absent."""
        if trial.id not in self._children:
            key = {"study_id": self.study_id, "role": "trial", "trial_id": trial.id}
            run = RunLog(
                self.client,
                self.experiment_id,
                key,
                trial.id,
                parent=self.parent.id,
                found=self._found.get(trial.id),
            )
            run.describe(trial.settings, self.tags)
            if trial.id not in self._found:
                run.text(self.resolved(trial.settings), "config.yaml")
            self._children[trial.id] = run
        return self._children[trial.id]

    def resolved(self, settings: Mapping[str, Any]) -> str:
        """Return the complete configuration of a trial as YAML."""
        parser = self.plan.bundle.training_parser(**self.plan.overrides(settings))
        return yaml.safe_dump(parser.get(), sort_keys=False, allow_unicode=True)

    def epoch(self, trial: TrialState, result: Mapping[str, Any]) -> None:
        """Log the metrics that a trial reported after an epoch."""
        run = self.child(trial)
        if not trial.over:
            run.open()
        if result.get("failure") or not result.get("epoch"):
            return
        ours = {self.plan.objective, "loss", "learning_rate", "epoch_seconds"}
        values = {k: v for k, v in result.items() if k in ours or k.startswith("validation_")}
        run.log(values, step=int(result["epoch"]))

    def end(self, trial: TrialState) -> None:
        """Close the run of a trial; ``KILLED`` if the study was interrupted."""
        run = self.child(trial)
        if not trial.over:  # the study was interrupted
            run.close("KILLED")
            return
        costs = {"parameters": trial.parameters, "multiply_adds": trial.multiply_adds}
        tags = {"status": trial.status, "epochs": trial.epoch, "seconds": round(trial.seconds, 3)}
        run.describe(
            {k: v for k, v in costs.items() if v is not None},
            {**tags, **({"failure": trial.failure} if trial.failure or "failure" in run.tags else {})},
        )
        run.close(STATUS[trial.status])

    def later(self, step: Callable[..., object], *arguments: Any) -> None:
        """Do a step as `safely` does, in order, in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._queue.put((step, arguments))

    def flush(self) -> None:
        """Wait until all steps given to `later` are done."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (given := self._queue.get()) is not None:
            self.safely(given[0], *given[1])

    def safely(self, step: Callable[..., object], *arguments: Any) -> None:
        """Call `step`; print the first MLflow error instead of raising."""
        try:
            with suppress_mlflow_logs():
                step(*arguments)
        except Exception as error:  # MLflow also raises errors of requests and SQLAlchemy
            if not self.lost:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                print(f"qcanet: MLflow cannot record the study for now: {reason}", file=sys.stderr)
            self.lost = True

    def artifacts(self, *paths: Path) -> None:
        """Log files and folders to the parent run."""
        for path in paths:
            self.parent.artifact(path, path.name if path.is_dir() else None)
