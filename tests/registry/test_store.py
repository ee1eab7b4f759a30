"""Connection to MLflow: store, availability, experiments."""

import contextlib
import logging
import socket
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import optuna
import pytest

from qcanet_monai.errors import OutputError, RegistryError
from qcanet_monai.registry.store import connect, experiment, store_uri, suppress_mlflow_logs


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    """Connect to a new sqlite store in a folder with characters special in URIs."""
    made = f"sqlite:///{tmp_path_factory.mktemp('store') / 'é # 50% a/mlflow.db'}"
    connect(made)
    return made


def folder_of(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///")).parent


def refusal(uri, kind=RegistryError, **options) -> str:
    with pytest.raises(kind) as caught:
        connect(uri, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_given_store_goes_before_the_environments_and_that_before_this_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert store_uri() == "http://server:5000"
    assert store_uri("https://other") == "https://other"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert store_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_a_relative_database_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_uri("sqlite:///runs/../a.db") == f"sqlite:///{tmp_path / 'a.db'}"
    assert store_uri(f"sqlite:///{tmp_path}/b.db") == f"sqlite:///{tmp_path / 'b.db'}"


@pytest.mark.parametrize("bad", ["file:///tmp/runs", "./mlruns", "postgresql://host/db", "sqlite:a.db"])
def test_another_kind_of_store_is_refused_given_or_from_the_environment(bad, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", bad)
    for given in (bad, None):
        with pytest.raises(RegistryError) as caught:
            store_uri(given)
        assert str(caught.value) == (
            f"expected an http, https or sqlite:/// URI for MLflow, got {bad!r}: "
            "give --tracking-uri or set MLFLOW_TRACKING_URI"
        )


@pytest.mark.slow
def test_processes_that_open_a_fresh_database_at_once_all_succeed(tmp_path):
    uri = f"sqlite:///{tmp_path / 'fresh.db'}"
    code = (
        "import sys; from mlflow import MlflowClient; from qcanet_monai.registry.store import connect;"
        "print('ready', flush=True); sys.stdin.readline();"
        "print(connect(sys.argv[1]).search_experiments()[0].name)"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", code, uri]
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert printed == "Default\n"
    assert [path.name for path in tmp_path.iterdir()] == ["fresh.db"]


def test_a_databases_folder_is_made_and_nothing_else_is_left_in_it(uri):
    assert [path.name for path in folder_of(uri).iterdir()] == ["mlflow.db"]


def test_a_database_that_is_there_needs_no_making(uri):
    assert connect(uri, create=False).search_experiments()[0].name == "Default"


def test_a_missing_database_is_made_only_where_that_is_wanted(tmp_path):
    uri = f"sqlite:///{tmp_path / 'sub/mlflow.db'}"
    message = refusal(uri, create=False)
    assert message.startswith(f"expected MLflow's database {tmp_path / 'sub/mlflow.db'}, found none")
    assert "--tracking-uri" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"hello", b"embryo,nuclei\n" * 1000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    for create in (True, False):
        message = refusal(f"sqlite:///{file}", create=create)
        assert message == f"expected a sqlite database, got {file}: give another --tracking-uri"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert file.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "optuna.db"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(storage=f"sqlite:///{file}")

    def tables() -> list:
        with sqlite3.connect(file) as connection:
            return connection.execute("select name, sql from sqlite_master").fetchall()

    before = tables()
    assert str(file) in refusal(f"sqlite:///{file}")
    assert tables() == before


@pytest.mark.parametrize("path", ["/proc/mlflow.db", "/proc/none/such/mlflow.db"])
def test_a_folder_that_cannot_be_written_to_is_told(path):
    assert f"cannot write into {Path(path).parent}" in refusal(f"sqlite:///{path}", OutputError)


def test_a_database_cannot_be_a_folder_or_lie_in_a_file(tmp_path, uri):
    assert f"cannot write {tmp_path}" in refusal(f"sqlite:///{tmp_path}", OutputError)
    assert "a file has this name" in refusal(f"{uri}/mlflow.db", OutputError)


def test_a_server_that_does_not_answer_is_told_in_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert refusal(closed) == (
        f"expected an MLflow server at {closed}, got ConnectionError: start it, correct --tracking-uri, or "
        "leave it out to use mlflow.db"
    )


@pytest.mark.parametrize("bad", ["http://", "http://[::1", "https://no host"])
def test_an_address_that_cannot_be_one_is_told_in_one_line(bad):
    assert refusal(bad).startswith(f"expected an MLflow server at {bad}, got ")


class Other(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def test_a_server_of_another_kind_is_told_by_its_status():
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert "got status 404: " in refusal(f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
            thread.join()


def test_an_experiment_is_made_once_and_its_artifacts_lie_beside_the_database(uri, tmp_path):
    client = connect(uri)
    first = experiment(client, uri, "qcanet-nsn")
    assert experiment(client, uri, "qcanet-nsn") == experiment(connect(uri), uri, "qcanet-nsn") == first
    assert experiment(client, uri, "qcanet-ndn") != first
    run = client.create_run(first).info.run_id
    (tmp_path / "note.txt").write_text("hello")
    client.log_artifact(run, str(tmp_path / "note.txt"))
    (found,) = (folder_of(uri) / "mlartifacts/qcanet-nsn" / run).rglob("note.txt")
    assert found.read_text() == "hello"


def test_an_experiment_that_was_deleted_is_told(uri):
    client = connect(uri)
    client.delete_experiment(experiment(client, uri, "deleted"))
    with pytest.raises(RegistryError, match="deleted"):
        experiment(client, uri, "deleted")


def test_connecting_prints_nothing(tmp_path, capfd):
    connect(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert capfd.readouterr() == ("", "")


def test_quiet_leaves_loggers_as_they_were():
    logger = logging.getLogger("mlflow")
    before = logger.level
    with contextlib.suppress(KeyError), suppress_mlflow_logs():
        assert logger.level == logging.ERROR
        raise KeyError
    assert logger.level == before
