"""Optional MLflow tracking of a bundle's training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from qcanet_monai.io import output_folder
from qcanet_monai.nn.devices import rank
from qcanet_monai.registry.data import describe_data
from qcanet_monai.registry.provenance import git_commit, origin, versions
from qcanet_monai.registry.runs import RunLog
from qcanet_monai.registry.store import connect, experiment, store_uri
from qcanet_monai.training.epochs import EpochValues
from qcanet_monai.training.export import flat, single_values


class Tracking:
    """Handler that logs a training run to MLflow.

    Logs the parameters once, and loss, learning rate and validation metrics each epoch; the epoch is the
    step. Attach it to the trainer after the validation handler. Resumed training continues its run, found
    by the tag ``output_dir``. The run ends as FINISHED or FAILED.

    Parameters
    ----------
    tracking_uri
        An ``http(s)://`` or ``sqlite:///`` URI.
    output_dir
        Training output folder; its name becomes the run's name.
    experiment
        MLflow experiment; created if absent.
    params
        Values to log as parameters; those of sections are nested.
    evaluator
        Validation engine.

    Raises
    ------
    RegistryError
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
        self.uri = store_uri(tracking_uri)
        self.experiment, self.params = experiment, flat(params)
        self.values, self.evaluator = EpochValues(evaluator), evaluator

    def attach(self, engine: Engine) -> None:
        """Register with the trainer; in distributed training, only rank 0 logs."""
        if rank() > 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        self.values.attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._end, "FINISHED")
        engine.add_event_handler(Events.TERMINATE, self._end, "FINISHED")
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._failed)

    def _start(self, engine: Engine) -> None:
        output_folder(self.output)
        client = connect(self.uri)
        where = experiment(client, self.uri, self.experiment)
        tags = {"git_commit": git_commit(), **versions(), **origin("monai.bundle run")}
        self.run = RunLog(client, where, {"output_dir": str(self.output)}, self.output.name, tags=tags)
        self.run.describe(single_values(self.params), {})  # logged values stay: MLflow's cannot change
        if not self.run.found:
            data = [
                describe_data(self.params["dataset_dir"], items, subset=subset, context=context)
                for subset, context, loader in (
                    ("train", "training", engine.state.dataloader),
                    ("validation", "validation", self.evaluator.data_loader),
                )
                if (items := _items(loader))
            ]
            if data:
                self.run.log_data(data)
        self.run.open()

    def _epoch(self, engine: Engine) -> None:
        self.run.log(self.values(engine), engine.state.epoch)

    def _end(self, _engine: Engine, status: str) -> None:
        self.run.close(status)

    def _failed(self, engine: Engine, error: BaseException) -> None:
        self._end(engine, "FAILED")
        raise error


def _items(loader: Any) -> list[dict[str, str]]:
    """List the images and labels of a data loader; none if it has no files."""
    found = getattr(loader.dataset, "data", [])
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("label"), str)]
