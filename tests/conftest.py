"""What several tests share: a small simulated dataset, made once."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qcanet_monai.workflows.simulate import simulate_dataset

RAY = Path(sys.executable).with_name("ray")


def starts_ray(path):
    return "tuning" in path.parts or path.name == "test_actors.py"


def pytest_collection_modifyitems(items):
    """Side by side, a file stays in one process; so do all the tests that start Ray, which come first."""
    items.sort(key=lambda item: not starts_ray(item.path))
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if starts_ray(item.path) else str(item.path)))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """Two embryos of three small frames in BBBC050's layout."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate_dataset(folder, embryos=2, timepoints=3, seed=4, spacing=(4.0, 2.0, 2.0), workers=1)
    return folder


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def cluster(tmp_path):
    """Two Ray nodes here, with a token; lends the address, the environment and a way to kill the second."""
    token = tmp_path / "token"
    token.write_text(secrets.token_hex(32))
    env = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    address = f"127.0.0.1:{free_port()}"
    common = ["--num-cpus=1", "--object-store-memory=100000000", "--block"]
    common += ["--node-ip-address=127.0.0.1"]
    head = ["--head", f"--port={address.split(':')[1]}", "--include-dashboard=false"]

    def start(options):
        with (tmp_path / "ray.log").open("a") as log:
            command = [str(RAY), "start", *options, *common]
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)

    nodes = [start(head)]
    try:
        check = [str(RAY), "health-check", f"--address={address}"]
        deadline = time.monotonic() + 120
        while subprocess.run(check, env=env, capture_output=True).returncode and time.monotonic() < deadline:
            time.sleep(1)
        nodes.append(start([f"--address={address}"]))
        yield address, env, lambda: kill_all(nodes[1])
    finally:
        for node in nodes:
            kill_all(node)


def kill_all(node):
    """Kill a node with all its processes."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
