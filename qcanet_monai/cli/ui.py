"""`qcanet ui`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from qcanet_monai.cli.options import TrackingUri, console


def ui(
    tracking_uri: TrackingUri = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Serve MLflow's pages of studies, trials, plots and models on this machine."""
    from qcanet_monai.errors import RegistryError
    from qcanet_monai.registry.store import SQLITE, connect, store_uri
    from qcanet_monai.registry.studies import TRAINING, studies

    uri = store_uri(tracking_uri)
    if not uri.startswith(SQLITE):
        raise RegistryError(f"expected a local sqlite store, got the server {uri}: open it in a browser")
    connect(uri)
    console.print(
        f"MLflow for {uri} on http://{host}:{port}/#/experiments?{TRAINING}; Ctrl-C ends it", soft_wrap=True
    )
    for study in studies(uri)[:5]:
        console.print(f"study {study.name}: http://{host}:{port}/{study.page}", soft_wrap=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    artifacts = f"{uri.removeprefix(SQLITE).rpartition('/')[0]}/mlartifacts"
    command += ["--artifacts-destination", artifacts, "--host", host, "--port", str(port)]
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(command, env=os.environ | own)
    try:
        status = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        status = server.wait() and 0
    if status:
        raise RegistryError(f"MLflow's server ended with status {status}: is port {port} taken? try --port")
