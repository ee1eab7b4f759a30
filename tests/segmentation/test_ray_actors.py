"""Segmentation on a Ray cluster of two nodes, by command line."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from qcanet_monai.bundle.bundle import SHIPPED
from qcanet_monai.io import read_csv, write_volume
from qcanet_monai.simulator.series import simulate_series
from qcanet_monai.simulator.settings import Simulation

QCANET = Path(sys.executable).with_name("qcanet")
SPACING = (1.75, 0.8, 0.8)
pytestmark = pytest.mark.slow


@pytest.fixture
def images(tmp_path) -> Path:
    """Write eight time points of a simulated embryo, and a truncated file."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, frame in enumerate(
        simulate_series(12345, timepoints=8, spacing=SPACING, generations=4, settings=Simulation())
    ):
        write_volume(folder / f"e_t{i}.tif", frame.image[10:42, 30:94, 30:94], spacing=SPACING)
    whole = (folder / "e_t3.tif").read_bytes()
    (folder / "e_t8.tif").write_bytes(whole[: len(whole) // 2])
    return folder


def segment(images, out, *options, env=None):
    command = [QCANET, "segment", images, "--out", out, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=env or os.environ)


def actors():
    return [p for p in psutil.process_iter(["cmdline"]) if "MapWorker" in " ".join(p.info["cmdline"] or [])]


def finished(out):
    return [path for path in out.glob(".done/*.json") if "fingerprint" in path.read_text()]


def contents(out):
    """Collect results by name, without times and paths."""
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    table = read_csv(out / "timepoints.csv")
    del table["seconds"]
    return {**files, "run.json": b"", "timepoints.csv": str(table)}


def test_a_cluster_gives_what_one_process_gives(images, tmp_path, cluster, qcanet):
    address, env = cluster.address, os.environ | cluster.settings
    alone = qcanet("segment", images, "--out", tmp_path / "alone")
    assert alone.returncode == 2  # because of the truncated file
    assert "e_t8.tif is truncated" in alone.stderr
    both = segment(images, tmp_path / "both", "--address", address, env=env)
    assert both.returncode == 2
    assert "e_t8.tif is truncated" in both.stderr
    assert len(contents(tmp_path / "alone")) == 2 * 8 + 4
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")
    assert sorted(path.name for path in (tmp_path / "both").iterdir() if path.is_dir()) == [".done"]

    # a rerun tries only the truncated file
    again = segment(images, tmp_path / "both", "--address", address, env=env)
    assert "8 of 9 were done before" in again.stdout

    # the images of a lost node go to the other
    out = tmp_path / "lost"
    command = [QCANET, "segment", images, "--out", out, "--address", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    while len({os.getsid(actor.pid) for actor in actors()}) < 2 or not finished(out):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    cluster.kill_second()
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 2, errors
    assert contents(out) == contents(tmp_path / "alone")


def test_an_image_that_kills_its_process_is_given_up(images, tmp_path, cluster):
    address, env = cluster.address, os.environ | cluster.settings
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED / "nsn", bundle)
    config = bundle / "configs/inference.yaml"
    dies = "$0.5 if __import__('sys').argv[0].endswith('qcanet') else __import__('os').abort()"
    text = config.read_text(encoding="utf-8")
    assert "\nthreshold: 0.5 " in text
    config.write_text(text.replace("\nthreshold: 0.5 ", f"\nthreshold: {dies} "), encoding="utf-8")
    for path in images.glob("e_t[1-8].tif"):
        path.unlink()
    gone = segment(images, tmp_path / "out", "--nsn", bundle, "--address", address, env=env)
    assert gone.returncode == 2
    assert [line for line in gone.stderr.splitlines() if line.startswith("qcanet: ")] == [
        f"qcanet: {images}/e_t0.tif: the process died 3 times, maybe out of memory: use fewer workers"
    ]
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_does_not_answer_is_named(images, tmp_path, qcanet):
    refused = qcanet("segment", images, "--out", tmp_path / "out", "--address", "127.0.0.1:1")
    assert refused.returncode == 2
    assert "expected a Ray cluster at 127.0.0.1:1, got" in refused.stderr
    assert not (tmp_path / "out").exists()
