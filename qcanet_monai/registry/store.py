"""The way to MLflow: which store, whether it answers, its experiments."""

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
from qcanet_monai.optional import need

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
SCHEMES = ("http://", "https://", SQLITE)


def store_uri(given: str | None = None) -> str:
    """URI of the store: the given one, else ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in this folder.

    Raises
    ------
    RegistryError
        If it is neither an http(s) nor a sqlite URI.
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
    """Client of a store that answers; a new sqlite database is initialised, by one process only.

    Parameters
    ----------
    uri
        As ``store_uri`` gives it.
    create
        Make a database that is not there yet.

    Raises
    ------
    RegistryError
        If the server does not answer, or the file is missing or no database.
    OutputError
        If the database's folder cannot be written to.
    """
    need("mlflow")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine unasked
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
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
        # processes that open a fresh database at once would each create its tables
        try:
            with FileLock(f"{database}.lock"):
                _check_database(database)
                return _client(uri)
        finally:
            Path(f"{database}.lock").unlink(missing_ok=True)
    _check_server(uri)
    return _client(uri)


def _client(uri: str) -> MlflowClient:
    with suppress_mlflow_logs():
        from mlflow import MlflowClient

        return MlflowClient(uri)  # this already makes the tables of a fresh database


def _check_database(database: Path) -> None:
    if database.is_dir() or not os.access(database if database.exists() else database.parent, os.W_OK):
        raise OutputError(f"cannot write {database}: give another --tracking-uri")
    if database.exists() and database.stat().st_size:
        try:
            with contextlib.closing(sqlite3.connect(database)) as connection:
                tables = [name for (name,) in connection.execute("select name from sqlite_master")]
        except sqlite3.OperationalError as error:
            raise RegistryError(f"{database} cannot be read: {error}") from error
        except sqlite3.DatabaseError as error:
            raise RegistryError(f"{database} is no sqlite database: give another --tracking-uri") from error
        if tables and "experiments" not in tables:
            raise RegistryError(f"{database} is another program's database: give another --tracking-uri")


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


def experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Id of an experiment, made if absent; beside a sqlite database lie its artifacts too."""
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
    except MlflowException:  # another process was faster
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


@contextlib.contextmanager
def suppress_mlflow_logs() -> Iterator[None]:
    """Keep MLflow's and Alembic's remarks from the user's screen."""
    names = ("mlflow", "alembic")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
