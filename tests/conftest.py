"""What several tests share: made or started once, and only where a test asks for it."""

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
os.environ |= {"RAY_worker_niceness": "0"}  # else trainings of Ray wait for whatever else is tested
gc.set_threshold(100_000)  # Python's 700 would scan the objects of torch, MONAI and Ray all the time


def pytest_collection_finish() -> None:
    """Exempt the imported modules from garbage collection: they live as long as the process."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side, file by file, the longest begin first: slow tests, then those that run networks."""
    networks = {"adaptation", "bundles", "evaluation", "exchange", "promotion", "segmentation"}
    items.sort(key=lambda item: (not item.get_closest_marker("slow"), item.path.parent.name not in networks))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """Two embryos of three small frames in BBBC050's layout."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate_dataset(folder, embryos=2, timepoints=3, seed=4, spacing=(4.0, 2.0, 2.0), workers=1)
    return folder


@pytest.fixture(scope="session")
def blank_store(tmp_path_factory) -> Path:
    """An MLflow database without runs, to be copied: making one takes seconds."""
    from qcanet_monai.registry.store import connect

    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def qcanet(monkeypatch, capsys) -> Callable[..., Done]:
    """Run the command line in this process, as its entry point does."""
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
    """A port on loopback that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclass
class Cluster:
    """Ray nodes of one processor each on this machine, with a token."""

    folder: Path
    address: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        self.settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    def start_head(self) -> None:
        """Start the first node."""
        self._start("--head", f"--port={self.address.split(':')[1]}", "--include-dashboard=false")

    def ensure_second(self) -> None:
        """Start the second node, unless it is there."""
        if len(self.nodes) < 2:
            self._start(f"--address={self.address}")

    def kill_second(self) -> None:
        """Kill the second node with all its processes."""
        kill_all(self.nodes.pop())

    def _start(self, *options: str) -> None:
        """Start a node and wait until it says that it runs."""
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
    """A cluster's first node."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start_head()
        yield cluster
    finally:
        for node in cluster.nodes:
            kill_all(node)


@pytest.fixture
def cluster(ray_head: Cluster) -> Cluster:
    """A cluster of two nodes, of which the second may be killed."""
    ray_head.ensure_second()
    return ray_head


def kill_all(node: subprocess.Popen[bytes]) -> None:
    """Kill a node with all its processes."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
