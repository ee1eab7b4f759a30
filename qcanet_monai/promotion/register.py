"""Registration of bundles as MLflow model versions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import qcanet_monai
from qcanet_monai.bundle.bundle import Bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

CODE = Path(__file__).with_name("pyfunc_model.py")


def register(
    client: MlflowClient,
    name: str,
    bundle: Bundle,
    *,
    run_id: str,
    tags: Mapping[str, str],
) -> ModelVersion:
    """Register a bundle as a model version that ``mlflow.pyfunc`` can load.

    Parameters
    ----------
    client
        Client of the MLflow store.
    name
        Registered model, created if absent.
    bundle
        Bundle whose ``docs/README.md`` becomes the description.
    run_id
        Run that the bundle comes from; the files are logged there.
    tags
        Metrics and origin.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    card = bundle.folder / "docs" / "README.md"
    with tempfile.TemporaryDirectory() as temporary:
        folder, copy = Path(temporary) / "model", Path(temporary) / "bundle"  # MLflow keeps this name
        bundle.copy_to(copy)
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(CODE),
            artifacts={"bundle": str(copy)},
            signature=_signature(bundle),
            pip_requirements=[f"qcanet-monai=={qcanet_monai.__version__}"],
        )
        client.log_artifacts(run_id, str(folder), "model")
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    return client.create_model_version(
        name,
        source=f"{client.get_run(run_id).info.artifact_uri}/model",
        run_id=run_id,
        tags=dict(tags),
        description=card.read_text(encoding="utf-8") if card.is_file() else None,
    )


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
