"""Bundles as MLflow's logged models, and registration of these as versions."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import qcanet_monai
from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.registry.data import Data
from qcanet_monai.registry.runs import RunLog

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

CODE = Path(__file__).with_name("pyfunc_model.py")
VERSIONS = "mlflow.modelVersions"  # tag in which MLflow's pages look for a model's versions


def log_model(
    client: MlflowClient,
    run: RunLog,
    name: str,
    *,
    bundle: Bundle | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    scores: Mapping[str, float] | None = None,
    step: int = 0,
    data: Data | None = None,
) -> str:
    """Log a bundle as a model of a run; return the model's id.

    Parameters
    ----------
    client
        Client of the MLflow store.
    run
        Run that made the bundle.
    name
        Name of the model.
    bundle
        Files of the model; a model without files has its scores only. ``add_files`` adds them later.
    params, tags
        Settings and origin.
    scores, step
        Metrics of the model and their step.
    data
        Dataset that the scores were measured on.
    """
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        run.experiment_id,
        name=name,
        source_run_id=run.id,
        tags=dict(tags or {}),
        params={key.replace("#", "."): str(value) for key, value in (params or {}).items()},
        model_type="bundle",
    )
    if bundle is not None:
        add_files(client, model.model_id, run.id, bundle)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run.id, [LoggedModelOutput(model.model_id, step)])
    if scores and data is not None:
        run.score(scores, step, model_id=model.model_id, data=data)
    return str(model.model_id)


def add_files(client: MlflowClient, model_id: str, run_id: str, bundle: Bundle) -> None:
    """Add a bundle's files to a logged model, which ``mlflow.pyfunc`` can load then."""
    import mlflow
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as temporary:
        folder, copy = Path(temporary) / "model", Path(temporary) / "bundle"  # MLflow keeps this name
        bundle.copy_to(copy)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(CODE),
            artifacts={"bundle": str(copy)},
            signature=_signature(bundle),
            input_example=(np.zeros((4, 8, 8), np.float32), {"spacing": [1.0, 1.0, 1.0]}),
            pip_requirements=[f"qcanet-monai=={qcanet_monai.__version__}"],
            mlflow_model=Model(run_id=run_id, model_id=model_id),
        )
        client.log_model_artifacts(model_id, str(folder))


def model_of(client: MlflowClient, run_id: str) -> str | None:
    """Return the id of a run's logged model that has files, or None."""
    outputs = client.get_run(run_id).outputs
    for output in [] if outputs is None else outputs.model_outputs:
        if client.list_logged_model_artifacts(output.model_id):
            return str(output.model_id)
    return None


def register(
    client: MlflowClient,
    uri: str,
    name: str,
    model_id: str,
    *,
    run_id: str,
    tags: Mapping[str, str],
    description: str | None = None,
) -> ModelVersion:
    """Register a logged model as a version; its files stay where they are.

    Parameters
    ----------
    client, uri
        Client of the MLflow store, and the store.
    name
        Registered model, created if absent.
    model_id
        Logged model with files.
    run_id
        Run that made the model.
    tags
        Metrics and origin.
    description
        Markdown for the page of the version.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    with _default_store(uri):
        version = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags=dict(tags),
            description=description,
        )
    before = json.loads(client.get_logged_model(model_id).tags.get(VERSIONS, "[]"))
    own = {"name": name, "version": version.version}
    if own not in before:
        client.set_logged_model_tags(model_id, {VERSIONS: json.dumps([*before, own])})
    return version


@contextlib.contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """Make a store MLflow's default: it looks up the model of a new version there."""
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        with _use_tracking_uri(uri):
            yield
    finally:  # MLflow sets and then removes it
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def _signature(bundle: Bundle) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    volume = (-1, -1, -1)
    output = np.dtype(np.uint32 if bundle.gives_labels else np.float32)  # labels, or a probability
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), volume)]),
        outputs=Schema([TensorSpec(output, volume)]),
        params=ParamSchema([ParamSpec("spacing", DataType.double, [0.0, 0.0, 0.0], shape=(-1,))]),
    )
