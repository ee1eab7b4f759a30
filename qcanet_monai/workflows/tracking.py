"""MLflow tracking of a bundle's training, when asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from qcanet_monai.errors import InputError
from qcanet_monai.io import output_folder
from qcanet_monai.nn.devices import rank
from qcanet_monai.workflows.epochs import EpochValues


class Tracking:
    """Log a training to MLflow: parameters once; loss, learning rate and validation each epoch.

    Attach it to the trainer after the handler that validates. A resumed training goes on in its run,
    which it finds again by the tag ``output_dir``; steps are epochs. The run ends FINISHED or FAILED.

    Parameters
    ----------
    tracking_uri
        An ``http(s)://`` or ``sqlite:///`` URI.
    output_dir
        The training's folder; its name is the run's name.
    experiment
        MLflow experiment; made if absent.
    params
        What is logged as parameters.
    evaluator
        The validation's engine.

    Raises
    ------
    InputError
        If the URI is of another kind.
    """

    def __init__(
        self,
        tracking_uri: str,
        output_dir: str | Path,
        experiment: str,
        params: Mapping[str, Any],
        evaluator: Any,
    ) -> None:
        self.output = Path(output_dir).resolve()
        self.uri = tracking_uri
        if not self.uri.startswith(("http://", "https://", "sqlite:///")):
            raise InputError(f"expected tracking_uri to be an http, https or sqlite URI, got {self.uri!r}")
        self.experiment, self.params = experiment, dict(params)
        self.values = EpochValues(evaluator)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer; of several processes the first one logs."""
        if rank() > 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        self.values.attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._end, "FINISHED")
        engine.add_event_handler(Events.TERMINATE, self._end, "FINISHED")
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def _start(self, _engine: Engine) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine unasked
        from mlflow import MlflowClient

        output_folder(self.output)
        self.client = MlflowClient(self.uri)
        found = self.client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else self._create_experiment()
        tag = str(self.output)
        runs = self.client.search_runs([experiment])
        ours = next((run for run in runs if run.data.tags.get("output_dir") == tag), None)
        run = ours or self.client.create_run(experiment, run_name=self.output.name)
        self.run = run.info.run_id
        self.client.set_tag(self.run, "output_dir", tag)
        self.client.update_run(self.run, status="RUNNING")
        for name, value in self.params.items():
            if name not in run.data.params:  # a parameter cannot change; a resumed run may have more epochs
                self.client.log_param(self.run, name, value)

    def _create_experiment(self) -> str:
        local = self.uri.startswith("sqlite:///")
        artifacts = Path(self.uri.removeprefix("sqlite:///")).parent / "artifacts"
        return str(self.client.create_experiment(self.experiment, artifacts.as_uri() if local else None))

    def _epoch(self, engine: Engine) -> None:
        for name, value in self.values(engine).items():
            self.client.log_metric(self.run, name, value, step=engine.state.epoch)

    def _end(self, _engine: Engine, status: str) -> None:
        self.client.set_terminated(self.run, status)

    def _failed(self, engine: Engine, error: BaseException) -> None:
        self._end(engine, "FAILED")
        raise error
