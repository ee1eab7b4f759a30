"""Shared fixtures, made or started once and only on request."""

import gc
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from qcanet_monai.datasets.simulate import simulate_dataset

RAY = Path(sys.executable).with_name("ray")
os.environ |= {"RAY_worker_niceness": "0"}  # otherwise Ray trainings wait for all other tests
gc.set_threshold(100_000)  # Python's 700 would scan the objects of torch, MONAI and Ray repeatedly


def pytest_collection_finish() -> None:
    """Exempt imported modules from garbage collection: they live to the end."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first: slow tests, then tests that run networks."""
    networks = {"adaptation", "bundles", "evaluation", "exchange", "promotion", "segmentation"}
    items.sort(key=lambda item: (not item.get_closest_marker("slow"), item.path.parent.name not in networks))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """Simulate two embryos of three small frames in BBBC050's layout."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate_dataset(folder, embryos=2, timepoints=3, seed=4, spacing=(4.0, 2.0, 2.0), workers=1)
    return folder


@pytest.fixture(scope="session")
def blank_store(tmp_path_factory) -> Path:
    """Make an MLflow database without runs, to be copied: creation takes seconds."""
    from qcanet_monai.registry.store import connect

    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def qcanet(monkeypatch, capsys) -> Callable[..., Done]:
    """Run the command line in this process through its entry point."""
    from qcanet_monai.cli.main import main

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["qcanet", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return Done(int(end.code or 0), *capsys.readouterr())
        return Done(0, *capsys.readouterr())

    return run


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclass
class Cluster:
    """Ray nodes of one CPU each on this machine, with a token."""

    folder: Path
    address: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        self.settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    def start_head(self) -> None:
        self._start("--head", f"--port={self.address.split(':')[1]}", "--include-dashboard=false")

    def ensure_second(self) -> None:
        if len(self.nodes) < 2:
            self._start(f"--address={self.address}")

    def kill_second(self) -> None:
        kill_all(self.nodes.pop())

    def _start(self, *options: str) -> None:
        """Start a node and wait until it reports that it runs."""
        common = ["--num-cpus=1", "--object-store-memory=100000000", "--block", "--node-ip-address=127.0.0.1"]
        command = [str(RAY), "start", *options, *common]
        path = self.folder / f"{time.monotonic_ns()}.log"
        env = os.environ | self.settings | {"RAY_USAGE_STATS_ENABLED": "0"}
        with path.open("w") as log:
            started = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        self.nodes.append(started)
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in path.read_text():
            assert started.poll() is None, path.read_text()
            assert time.monotonic() < deadline, path.read_text()
            time.sleep(0.2)


@pytest.fixture(scope="session")
def ray_head(tmp_path_factory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start_head()
        yield cluster
    finally:
        for node in cluster.nodes:
            kill_all(node)


@pytest.fixture
def cluster(ray_head: Cluster) -> Cluster:
    """Complete the cluster to two nodes; a test may kill the second."""
    ray_head.ensure_second()
    return ray_head


def kill_all(node: subprocess.Popen[bytes]) -> None:
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
