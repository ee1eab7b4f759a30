"""Connection to an MLflow store and its experiments."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from filelock import FileLock

from qcanet_monai.errors import OutputError, RegistryError
from qcanet_monai.io import output_folder
from qcanet_monai.io.suppress_logs import log_level
from qcanet_monai.optional import need

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
SCHEMES = ("http://", "https://", SQLITE)


def store_uri(given: str | None = None) -> str:
    """Return the URI `given`, ``MLFLOW_TRACKING_URI``, or that of ``./mlflow.db``.

    Raises
    ------
    RegistryError
        If the URI is neither http(s) nor sqlite.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if not uri.startswith(SCHEMES):
        raise RegistryError(
            f"expected an http, https or {SQLITE} URI for MLflow, got {uri!r}: "
            "give --tracking-uri or set MLFLOW_TRACKING_URI"
        )
    if uri.startswith(SQLITE):
        return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}"
    return uri


def connect(uri: str, *, create: bool = True) -> MlflowClient:
    """Connect to an MLflow store; only one process initialises a new database.

    Parameters
    ----------
    uri
        URI from `store_uri`.
    create
        Create a missing sqlite database.

    Raises
    ------
    RegistryError
        If the server does not answer, or the file is missing or not an MLflow database.
    OutputError
        If the database or its folder is not writable.
    """
    need("mlflow")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # send no usage data
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines per run
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"
    )  # else a lost server halts a study for minutes
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE))
        if not create and not database.is_file():
            raise RegistryError(
                f"expected MLflow's database {database}, found none: run a study first, or name "
                "the store with --tracking-uri"
            )
        output_folder(database.parent)
        # processes that open a new database at once would each create its tables
        try:
            with FileLock(f"{database}.lock"):
                _check_database(database)
                return _client(uri)
        finally:
            Path(f"{database}.lock").unlink(missing_ok=True)
    _check_server(uri)
    client = _client(uri)
    _check_account(client, uri)
    return client


def _client(uri: str) -> MlflowClient:
    with suppress_mlflow_logs():
        from mlflow import MlflowClient

        return MlflowClient(uri)  # creates the tables of a new database


def _check_database(database: Path) -> None:
    if database.is_dir() or not os.access(database if database.exists() else database.parent, os.W_OK):
        raise OutputError(f"cannot write {database}: give another --tracking-uri")
    if database.exists() and database.stat().st_size:
        try:
            with contextlib.closing(sqlite3.connect(database)) as connection:
                tables = [name for (name,) in connection.execute("select name from sqlite_master")]
        except sqlite3.OperationalError as error:
            raise RegistryError(
                f"expected a readable database {database}, got {error}: give another --tracking-uri"
            ) from error
        except sqlite3.DatabaseError as error:
            raise RegistryError(
                f"expected a sqlite database, got {database}: give another --tracking-uri"
            ) from error
        if tables and "experiments" not in tables:
            raise RegistryError(
                f"expected MLflow's database, got another program's {database}: give another --tracking-uri"
            )


def _check_server(uri: str) -> None:
    try:
        response = requests.get(f"{uri.rstrip('/')}/health", timeout=10)
        problem = None if response.ok else f"status {response.status_code}"
    except requests.RequestException as error:
        problem = type(error).__name__
    if problem:
        raise RegistryError(
            f"expected an MLflow server at {uri}, got {problem}: start it, correct --tracking-uri, or "
            "leave it out to use mlflow.db"
        )


def _check_account(client: MlflowClient, uri: str) -> None:
    """Refuse a server that asks for an account, or for another one."""
    from mlflow.exceptions import MlflowException

    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        if error.get_http_status_code() not in (401, 403) and "401" not in str(error):
            raise
        raise RegistryError(
            f"expected an account of the MLflow server at {uri}, got none or a wrong password: set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        ) from error


def experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Return an experiment's id; a missing experiment is created.

    With a sqlite store, its artifacts are beside the database.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise RegistryError(
                f"MLflow's experiment {name} was deleted: restore it with `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`, or delete it for good with `mlflow gc`"
            )
        return str(found.experiment_id)
    location = None
    if uri.startswith(SQLITE):
        location = (Path(uri.removeprefix(SQLITE)).parent / "mlartifacts" / name).as_uri()
    try:
        return str(client.create_experiment(name, location))
    except MlflowException:  # another process created the experiment first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


@contextlib.contextmanager
def suppress_mlflow_logs() -> Iterator[None]:
    """Suppress warnings and log messages of MLflow and Alembic below ERROR."""
    with log_level(logging.ERROR, "mlflow", "alembic"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
