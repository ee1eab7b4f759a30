"""Registered models, whose versions are complete bundles; nothing is unpickled."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from qcanet_monai.errors import RegistryError
from qcanet_monai.io import output_folder
from qcanet_monai.registry.store import connect, store_uri, suppress_mlflow_logs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PREFIX = "models:/"
CHAMPION = "champion"
_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def find_version(client: MlflowClient, reference: str) -> ModelVersion:
    """Return the version of ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises
    ------
    RegistryError
        If `reference` has another form, or the registry has no such version.
    """
    from mlflow.exceptions import MlflowException

    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise RegistryError(f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {reference!r}")
    try:
        if match["alias"]:
            return client.get_model_version_by_alias(match["name"], match["alias"])
        return client.get_model_version(match["name"], match["version"])
    except MlflowException as error:
        known = ", ".join(sorted(model.name for model in client.search_registered_models())) or "none"
        raise RegistryError(
            f"expected a version of a registered model ({known}), got {reference}: register one with "
            "`qcanet promote`"
        ) from error


def champion(client: MlflowClient, name: str) -> ModelVersion | None:
    """Return the version with the alias ``champion``, or None."""
    if not client.search_registered_models(f"name = '{name}'"):
        return None
    if CHAMPION not in client.get_registered_model(name).aliases:
        return None
    return client.get_model_version_by_alias(name, CHAMPION)


def fetch(reference: str, tracking_uri: str | None = None) -> Path:
    """Return the bundle folder of a registered version, downloaded once.

    Raises
    ------
    RegistryError
        If the store does not answer or has no such version.
    """
    uri = store_uri(tracking_uri)
    with suppress_mlflow_logs():
        client = connect(uri, create=False)
        return fetch_version(client, uri, find_version(client, reference))


def fetch_version(client: MlflowClient, uri: str, version: ModelVersion) -> Path:
    """Return the bundle folder of a version, from the cache if present."""
    from mlflow.exceptions import MlflowException

    key = hashlib.sha256(uri.encode()).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qcanet" / "models" / key
    target = root / version.name / f"{version.version}-{version.run_id}"  # versions are immutable
    if target.is_dir():
        return target
    source = f"{client.get_model_version_download_uri(version.name, version.version)}/artifacts/bundle"
    try:
        return download(uri, source, target)
    except (MlflowException, OSError) as error:
        raise RegistryError(
            f"expected a bundle at {source}, got {str(error).splitlines()[0]}: check the MLflow server"
        ) from error


def download(uri: str, source: str, target: Path) -> Path:
    """Return local artifacts in place; download others to `target`, atomically."""
    import mlflow

    if source.startswith("file:"):
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, tracking_uri=uri))
    output_folder(target.parent)
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        got = mlflow.artifacts.download_artifacts(
            artifact_uri=source, dst_path=str(temporary), tracking_uri=uri
        )
        try:
            Path(got).rename(target)
        except OSError:
            if not target.is_dir():  # another process may have created the folder
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
