"""A team's server: accounts, a path prefix, artifacts on S3-compatible storage."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import requests
from moto.server import ThreadedMotoServer

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import RegistryError
from qcanet_monai.promotion.promote import promote
from qcanet_monai.registry.results import log_results
from qcanet_monai.registry.store import connect
from qcanet_monai.registry.studies import studies
from qcanet_monai.registry.versions import fetch

pytestmark = pytest.mark.slow
ACCESS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
PASSWORD = "a-long-password"


@pytest.fixture(scope="module")
def bucket():
    """Start a server of the S3 protocol with a bucket; yield its address."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    address = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/mlflow", method="PUT")).close()
    yield address
    running.stop()


@pytest.fixture(scope="module")
def team(bucket, tmp_path_factory):
    """Start MLflow as the team's page says, without containers; yield its address."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndatabase_uri = sqlite:///{folder}/auth.db\ndefault_permission = READ\n"
        "admin_username = admin\n"
        f"admin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--app-name", "basic-auth", "--static-prefix", "/lab", "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--serve-artifacts", "--artifacts-destination", "s3://mlflow"]
    own = {
        **ACCESS,
        "MLFLOW_S3_ENDPOINT_URL": bucket,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | own, cwd=folder, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}/lab"
    try:
        for _ in range(600):
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{uri}/health", timeout=5).ok:
                    break
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.fixture
def account(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_without_an_account_one_line_says_what_to_set(team, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")  # no ~/.mlflow/credentials
    with pytest.raises(RegistryError) as caught:
        connect(team)
    assert "\n" not in str(caught.value)
    assert "MLFLOW_TRACKING_USERNAME" in str(caught.value)


@pytest.mark.usefixtures("account")
def test_a_bundle_is_promoted_and_used_by_name(team, bucket, dataset):
    done = promote("nsn", bundle="bundled", data=dataset, tracking_uri=team)
    assert done.version == "1"
    folder = fetch("models:/nsn@champion", team)
    assert Bundle(folder).digest == Bundle.find("nsn").digest
    kept = requests.get(f"{bucket}/mlflow?list-type=2", timeout=10).text
    assert kept.count("model.pt</Key>") == 1  # through the server, once


@pytest.mark.usefixtures("account")
def test_results_are_logged_with_their_files(team, tmp_path):
    (tmp_path / "table.md").write_text("scores")
    page = log_results(
        team, "mine", "a", source="test", params={"x": 1}, metrics={"seg": 0.5}, files=[tmp_path / "table.md"]
    )
    client = connect(team)
    run = client.get_run(page.rpartition("/")[2].partition("?")[0])
    assert (run.data.metrics["seg"], run.data.params["x"]) == (0.5, "1")
    assert run.data.tags["mlflow.source.name"] == "test"
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"table.md", "requirements.txt"}
    assert Path(client.download_artifacts(run.info.run_id, "table.md")).read_text() == "scores"
    assert studies(team) == []
