"""Thresholds chosen on labelled images, and the bundle that holds them."""

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.cli.main import app
from qcanet_monai.core.metrics.detection import panoptic_quality
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import seg
from qcanet_monai.errors import InputError, ModelError, OutputError
from qcanet_monai.evaluation.calibrate import CANDIDATES, calibrate
from qcanet_monai.io import read_labels, read_volume, write_labels
from qcanet_monai.io.dataset import evenly, pairs
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.training.export import write_knobs

BAD = {"networks": {"nsn": {"threshold": 0.999}, "ndn": {"threshold": 0.02, "min_size": 40}}}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """The shipped pair with thresholds that lose its nuclei."""
    folder = tmp_path_factory.mktemp("bundles") / "bad"
    Bundle.find("qcanet").copy_to(folder)
    write_knobs(folder, BAD)
    return folder


@pytest.fixture(scope="module")
def found(bad, dataset):
    out = bad.with_name("good")
    return calibrate(bad, data=dataset, out=out, volumes=3), out


def test_thresholds_that_lose_nuclei_are_replaced_by_better_ones(found, bad):
    chosen, out = found
    assert chosen.before.pq < 0.1 < 0.5 < chosen.after.pq
    assert chosen.settings.keys() >= {"networks#nsn#threshold", "networks#ndn#threshold"}
    inside = Bundle(out).inference["networks"]
    assert inside["nsn"]["threshold"] == chosen.settings["networks#nsn#threshold"] in CANDIDATES["threshold"]
    assert Bundle(bad).inference["networks"]["nsn"]["threshold"] == 0.999


def test_the_bundle_scores_what_the_calibration_says(found, dataset):
    chosen, out = found
    tables = []
    for item in evenly(pairs(dataset, "train", "QCANet"), 3):
        labels = load_segmenter(out)(read_volume(item["image"])).labels
        tables.append(overlap_table(read_labels(item["label"]).array, labels))
    scores = np.mean([(panoptic_quality(t).pq, seg(t)) for t in tables], axis=0)
    assert scores == pytest.approx(np.array(chosen.after), abs=0.005)  # outputs are kept in half precision


def test_a_bundle_of_one_network_is_calibrated_in_both_of_its_files(dataset, tmp_path):
    Bundle.find("joint").copy_to(tmp_path / "bad")
    write_knobs(tmp_path / "bad", {"threshold": 0.95, "min_peak": 0.9})
    done = calibrate(tmp_path / "bad", data=dataset, out=tmp_path / "good", volumes=2)
    assert done.after.pq > done.before.pq
    good = Bundle(tmp_path / "good")
    for key, value in done.settings.items():
        assert good.inference[key] == good.training[key] == value


def test_the_command_shows_what_it_chose_and_refuses_to_overwrite(bad, dataset, tmp_path):
    out = tmp_path / "calibrated"
    options = ["calibrate", str(bad), "--data", str(dataset), "--out", str(out), "--volumes", "1"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0
    assert "networks#nsn#threshold" in result.stdout
    assert "panoptic quality" in result.stdout
    assert f"--model {out}" in result.stdout.replace("\n", "")
    with pytest.raises(OutputError, match="expected a new folder"):
        calibrate(bad, data=dataset, out=out)


def test_what_cannot_be_calibrated_is_refused_and_leaves_nothing(dataset, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="expected a bundle that produces labels"):
        calibrate("nsn", data=dataset, out=out)
    with pytest.raises(InputError, match="at least 1 volume"):
        calibrate("qcanet", data=dataset, out=out, volumes=0)
    empty = tmp_path / "empty"
    shutil.copytree(dataset, empty)
    for item in pairs(empty, "train", "QCANet"):
        true = read_labels(item["label"])
        write_labels(item["label"], np.zeros_like(true.array), spacing=true.spacing)
    with pytest.raises(InputError, match="labelled objects, found none"):
        calibrate("qcanet", data=empty, out=out, volumes=1)
    assert not out.exists()
