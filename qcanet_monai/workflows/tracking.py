"""MLflow tracking of a bundle's training, when asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcanet_monai.errors import InputError
from qcanet_monai.io import output_folder


def tracking_handlers(
    tracking: str | bool | None,
    *,
    output_dir: str,
    experiment: str,
    params: Mapping[str, Any],
    role: str,
    trainer: Any = None,
) -> Sequence[Any]:
    """Handlers that log a training to MLflow; none unless asked for.

    Parameters
    ----------
    tracking
        An ``http(s)://`` or ``sqlite:///`` URI; True for a database in `output_dir`; None or False for
        no tracking.
    output_dir
        The run's folder; its name is the run's name, so a resumed training goes on in its run.
    experiment
        MLflow experiment.
    params
        The bundle's knobs, logged as parameters.
    role
        "train" logs the loss and learning rate, "validate" the validation's metrics.
    trainer
        For "validate": the trainer, whose epoch is the metrics' step.

    Raises
    ------
    InputError
        If the URI is of another kind.
    """
    if not tracking:
        return []
    from monai.handlers import MLFlowHandler  # mlflow takes a second to import

    output = output_folder(Path(output_dir).resolve())
    uri = f"sqlite:///{output / 'mlflow.db'}" if tracking in (True, "True", "true") else str(tracking)
    if not uri.startswith(("http://", "https://", "sqlite:///")):
        raise InputError(f"expected --tracking to be True or an http, https or sqlite URI, got {uri!r}")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine unasked
    shared = {
        "tracking_uri": uri,
        "experiment_name": experiment,
        "run_name": output.name,
        "output_transform": _loss,
    }
    if role == "train":
        return [
            MLFlowHandler(**shared, iteration_log=False, epoch_logger=None, experiment_param=dict(params))
        ]
    return [
        MLFlowHandler(
            **shared, iteration_log=False, global_epoch_transform=lambda _epoch: trainer.state.epoch
        )
    ]


def _loss(output: Sequence[Mapping[str, Any]]) -> float:
    return float(output[0]["loss"])
