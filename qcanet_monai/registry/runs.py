"""MLflow runs, found by their tags so that nothing is logged twice."""

from __future__ import annotations

import ast
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from qcanet_monai.registry.data import Data

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
ACTIVE = "RUNNING"


class RunLog:
    """MLflow run, created or resumed, that logs each value once.

    Parameters
    ----------
    client, experiment_id
        MLflow client, and experiment of the run.
    key
        Tags that identify the run within its experiment.
    name
        Name of a new run.
    parent
        Id of the parent run, for a new nested run.
    found
        Existing run; searched for by `key` if None.
    tags
        Further tags of a new run.
    new
        Create a run even if there is one with the key.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        key: Mapping[str, str],
        name: str,
        *,
        parent: str | None = None,
        found: Run | None = None,
        tags: Mapping[str, str] | None = None,
        new: bool = False,
    ) -> None:
        self.client, self.experiment_id = client, experiment_id
        run = found or (None if new else find_run(client, experiment_id, key))
        self.found = run is not None
        if run is None:
            own = {**key, **(tags or {}), **({PARENT: parent} if parent else {})}
            run = client.create_run(experiment_id, run_name=name, tags=own)
        self.id = str(run.info.run_id)
        self.status = str(run.info.status)
        self._params = set(run.data.params)
        self.tags = dict(run.data.tags)
        self._last = {name: self._last_step(name) for name in run.data.metrics}

    def _last_step(self, name: str) -> int:
        return max(metric.step for metric in self.client.get_metric_history(self.id, name))

    def describe(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Log parameters that are new, and tags that are new or changed."""
        from mlflow.entities import Param, RunTag

        new = {_key(name): str(value) for name, value in params.items() if _key(name) not in self._params}
        changed = {name: str(value) for name, value in tags.items() if self.tags.get(name) != str(value)}
        if new or changed:
            self.client.log_batch(
                self.id,
                params=[Param(*item) for item in new.items()],
                tags=[RunTag(*item) for item in changed.items()],
            )
        self._params |= set(new)
        self.tags |= changed

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the finite metrics of a step, unless the step is already logged."""
        self.log_steps({step: values})

    def log_steps(self, steps: Mapping[int, Mapping[str, float]]) -> None:
        """Log the metrics of several steps, in ascending order, as `log` does."""
        from mlflow.entities import Metric

        now, fresh = int(time.time() * 1000), []
        for step, values in steps.items():
            for name, value in values.items():
                if step > self._last.get(name, -1) and math.isfinite(value):
                    fresh.append(Metric(name, float(value), now, step))
                    self._last[name] = step
        if fresh:
            self.client.log_batch(self.id, metrics=fresh)

    def log_data(self, data: Sequence[Data]) -> None:
        """Log datasets as the run's inputs; MLflow logs a dataset once."""
        self.client.log_inputs(self.id, [one.input for one in data])

    def score(self, values: Mapping[str, float], step: int, *, model_id: str, data: Data) -> None:
        """Log metrics of a logged model on a dataset, without a check for earlier ones."""
        from mlflow.entities import Metric

        now, on = int(time.time() * 1000), {"dataset_name": data.name, "dataset_digest": data.digest}
        sound = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self.client.log_batch(
            self.id,
            metrics=[
                Metric(name, value, now, step, model_id=model_id, **on) for name, value in sound.items()
            ],
        )

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with its contents."""
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        log(self.id, str(path), folder)

    def text(self, content: str, name: str) -> None:
        """Log a text as a file."""
        self.client.log_text(self.id, content, name)

    def open(self) -> None:
        """Mark the run as running."""
        if self.status != ACTIVE:
            self.client.update_run(self.id, status=ACTIVE)
            self.status = ACTIVE

    def close(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        if self.status != status:
            self.client.set_terminated(self.id, status)
            self.status = status


def find_run(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> Run | None:
    """Return the newest run of an experiment with all these tags, or None."""
    runs = find_runs(client, experiment_id, tags)
    return runs[0] if runs else None


def find_runs(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
    """Return all runs of an experiment with all these tags, newest first."""
    wanted = " and ".join(f"tags.`{name}` = {_quoted(value)}" for name, value in tags.items())
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], wanted, order_by=["attributes.start_time DESC"], page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def _quoted(value: str) -> str:
    """Quote a filter value; MLflow accepts both quotation marks but no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def _key(name: str) -> str:
    """Replace `#`, which MLflow rejects: `betas#0` becomes `betas.0`."""
    return name.replace("#", ".")


def run_knobs(client: MlflowClient, run: Run) -> dict[str, Any]:
    """Return a training's settings by the bundle's keys, of lists as ``betas#0``.

    Runs of earlier versions have them in ``config.yaml``.
    """
    if "epochs" in run.data.params:
        return {_name(key): _value(value) for key, value in run.data.params.items()}
    with tempfile.TemporaryDirectory() as temporary:
        path = client.download_artifacts(run.info.run_id, "config.yaml", temporary)
        content: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return content


def run_score(run: Run, objective: str) -> float:
    """Return the best validation of a training, also of earlier versions."""
    metrics = run.data.metrics
    return float(metrics[f"best_{objective}"] if f"best_{objective}" in metrics else metrics[objective])


def _name(key: str) -> str:
    """Undo `_key`."""
    return key.replace(".", "#")


def _value(text: str) -> Any:
    """Read a parameter, which MLflow keeps as text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
