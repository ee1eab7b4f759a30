"""MLflow record of a study: a parent run with one child run per trial."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml
from ray.tune import Checkpoint

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import root_cause
from qcanet_monai.promotion.register import add_files, log_model
from qcanet_monai.registry.data import Data
from qcanet_monai.registry.provenance import environment
from qcanet_monai.registry.runs import RunLog, find_runs
from qcanet_monai.registry.store import connect, experiment, suppress_mlflow_logs
from qcanet_monai.registry.studies import study_page, view_of
from qcanet_monai.training.export import single_values
from qcanet_monai.tuning.notes import NOTE, domains_text, experiment_note
from qcanet_monai.tuning.pictures import draw
from qcanet_monai.tuning.progress import TrialState
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan

STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
VIEW = "mlflow.sharedViewState."  # prefix of an experiment's tags for views of its runs
SECONDS = 5  # at most, between a trial's end and its point in the study's progress


class StudyRecord:
    """MLflow runs of a study; a resumed study continues the same runs.

    Existing entries stay unchanged. A store that fails does not stop the study; a final pass writes missing
    entries. The parent and every child run carry `tags` and have `data` as inputs. `shown` are the
    images and labels for the pictures of the best trials.
    """

    def __init__(
        self,
        uri: str,
        experiment_name: str,
        name: str,
        study_id: str,
        plan: Plan,
        tags: Mapping[str, str],
        data: Sequence[Data] = (),
        shown: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.plan, self.study_id, self.lost, self.data, self.shown = plan, study_id, False, data, shown
        self.tags = {"study": name, **tags}
        with suppress_mlflow_logs():
            self.client = connect(uri)
            self.experiment_id = experiment(self.client, uri, experiment_name)
            self.parent = RunLog(
                self.client, self.experiment_id, {"study_id": study_id, "role": "study"}, name, tags=self.tags
            )
            self.parent.describe({}, self.tags)
            if not self.parent.found and data:
                self.parent.log_data(data)
            self.parent.open()
            found = find_runs(self.client, self.experiment_id, {"study_id": study_id, "role": "trial"})
        self._queue: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._found = {run.data.tags["trial_id"]: run for run in found}
        self._children: dict[str, RunLog] = {}
        self._models: dict[str, str] = {}
        self._progress: dict[int, Mapping[str, float]] = {}
        self._written = 0.0

    def describe_study(self, study: Study, bundle: Bundle) -> None:
        """Log the study's file, its settings and the environment to the parent run."""
        searched = {key: domains_text(study.variants(key)) for key in study.space}
        sections = {"sampler": study.sampler, "scheduler": study.scheduler, "resources": study.resources}
        budget: dict[str, Any] = {"trials": study.trials, "epochs": study.epochs}
        for name, section in sections.items():
            budget |= {f"{name}.{key}": value for key, value in section.model_dump().items()}
        self.parent.describe(self.knobs | searched | budget, {"searched": ", ".join(searched)})
        self.parent.text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False), "study.yaml")
        self.parent.text(environment(), "requirements.txt")
        complete = self.plan.bundle.training_parser(**self.plan.overrides({})).get()
        self.parent.text(yaml.safe_dump(complete, sort_keys=False, allow_unicode=True), "config.yaml")
        self.client.set_experiment_tag(
            self.experiment_id, f"{VIEW}{view_of(self.study_id)}", self._view(study)
        )
        note = experiment_note(bundle.name, str(bundle.metadata.get("description", "")))
        self.client.set_experiment_tag(self.experiment_id, NOTE, note)

    @property
    def page(self) -> str:
        """Address of the study's runs within MLflow's pages, best first."""
        return study_page(self.experiment_id, self.study_id)

    def _view(self, study: Study) -> str:
        """Return MLflow's state of a table of the study's runs, objective first."""
        objective = f"metrics.`best_{self.plan.objective}`"
        settings = [f"params.`{key.replace('#', '.')}`" for key in study.space]
        rest = [f"attributes.`{name}`" for name in ("Dataset", "Source", "Models")]
        state = {
            "searchFilter": f"tags.study_id = '{self.study_id}'",
            "selectedColumns": [objective, *settings, *rest],
            "orderByKey": objective,
            "orderByAsc": False,
        }
        return json.dumps(state)

    def child(self, trial: TrialState) -> RunLog:
        """Return the run of a trial; create the run if absent."""
        if trial.id not in self._children:
            key = {"study_id": self.study_id, "role": "trial", "trial_id": trial.id}
            run = RunLog(
                self.client,
                self.experiment_id,
                key,
                trial.title,
                parent=self.parent.id,
                found=self._found.get(trial.id),
                tags={**self.tags, "searched": ", ".join(trial.settings)},
            )
            run.describe(self.knobs | single_values(trial.settings), {})
            if not run.found and self.data:
                run.log_data(self.data)
            self._children[trial.id] = run
        return self._children[trial.id]

    def model(self, trial: TrialState) -> str:
        """Return the id of a finished trial's logged model; create it if absent."""
        run = self.child(trial)
        if "model_id" in run.tags:
            return run.tags["model_id"]
        if trial.id not in self._models:
            self._models[trial.id] = log_model(
                self.client,
                run,
                f"{Path(self.tags['bundle']).name}-{trial.id}",
                params=trial.settings,
                tags={"study": self.tags["study"], "trial_id": trial.id},
                scores={self.plan.objective: trial.value or 0.0},
                step=trial.epoch,
                data=self.data[-1],
            )
        return self._models[trial.id]

    @cached_property
    def knobs(self) -> dict[str, Any]:
        """Values that all trials share, by the bundle's keys; those of a list are single."""
        training = {**self.plan.bundle.training, **self.plan.overrides({})}
        return single_values({key: training[key] for key in training["knobs"] if key in training})

    def progress(self, ended: int, best: float | None) -> None:
        """Log the best objective so far over the number of trials that have ended."""
        if best is not None:
            self._progress[ended] = {f"best_{self.plan.objective}": best}
        if self._progress and time.monotonic() - self._written >= SECONDS:
            self.write_progress()

    def write_progress(self) -> None:
        """Write the progress that `progress` has collected."""
        self.parent.log_steps(self._progress)
        self._progress, self._written = {}, time.monotonic()

    def epoch(self, trial: TrialState, result: Mapping[str, Any]) -> None:
        """Log the metrics that a trial reported after an epoch."""
        run = self.child(trial)
        if not trial.over:
            run.open()
        if result.get("failure") or not result.get("epoch"):
            return
        run.log(metrics_of(result, self.plan.objective), step=int(result["epoch"]))

    def end(self, trial: TrialState) -> None:
        """Close the run of a trial; ``KILLED`` if the study was interrupted."""
        run = self.child(trial)
        if not trial.over:  # the study was interrupted
            run.close("KILLED")
            return
        costs = {"parameters": trial.parameters, "multiply_adds": trial.multiply_adds}
        tags = {"status": trial.status, "epochs": trial.epoch, "seconds": round(trial.seconds, 3)}
        if trial.status == "finished" and self.data:
            tags |= {"model_id": self.model(trial)}
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

    def files(self, trial: TrialState, bundle: Bundle) -> None:
        """Add a bundle's files to the logged model of a trial, once."""
        model_id = self.model(trial)
        if not self.client.list_logged_model_artifacts(model_id):
            add_files(self.client, model_id, self.child(trial).id, bundle)

    def pictures(self, trial: TrialState, checkpoint: Checkpoint, step: int) -> None:
        """Log what a new best trial finds in a few volumes, to its run and the parent's.

        A checkpoint that was deleted meanwhile, because another trial is better, gives none.
        """
        try:
            with checkpoint.as_directory() as folder:
                drawn = draw(Bundle(Path(folder)), self.shown)
        except Exception as error:  # of the checkpoint, or of any code of the bundle
            print(f"qcanet: no picture of trial {trial.id}: {root_cause(error)}", file=sys.stderr)
            return
        for name, picture in drawn.items():
            self.client.log_image(self.child(trial).id, picture, key=name, step=trial.epoch)
            self.client.log_image(self.parent.id, picture, key=name, step=step)

    def artifacts(self, *paths: Path) -> None:
        """Log files and folders to the parent run."""
        for path in paths:
            self.parent.artifact(path, path.name if path.is_dir() else None)


def metrics_of(result: Mapping[str, Any], objective: str) -> dict[str, float]:
    """Return the metrics of an epoch: its own values, and the best objective so far."""
    kept = ("loss", "learning_rate", "epoch_seconds", "voxels_per_second")
    prefixes = ("validation_", "system/")
    found = {name: value for name, value in result.items() if name in kept or name.startswith(prefixes)}
    return {f"best_{objective}": result[objective], **found}
