"""Errors before a study: one line, exit status 2, nothing started."""

import socket
import subprocess
import sys

import pytest

from qcanet_monai.tuning.study_file import read_study

FITS = {"folds": 2, "isotropic_spacing_um": 4.0, "depth": 1, "patch_size": 16}
SPACE = {"learning_rate": {"low": 1.0e-3, "high": 1.0e-2, "log": True}}


@pytest.fixture
def refused(qcanet):
    def told(study, *options):
        _, *words = study.command(*options)
        ran = qcanet(*words)
        assert ran.returncode == 2, ran.stderr
        assert not (study.root / "study.json").exists()
        assert not (study.root / "ray").exists()
        lines = [line for line in ran.stderr.splitlines() if not line.endswith("…")]
        assert len(lines) == 1
        return lines[0]

    return told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trails": 3}, "unknown key trails, did you mean trials?"),
        ({"sampler": {"startup": 3}}, "unknown key sampler.startup, did you mean startup_trials?"),
        ({"space": {"learning_rat": SPACE["learning_rate"]}}, "did you mean learning_rate?"),
        ({"space": {"colour": {"choices": [1, 2]}}}, "nsn has no setting colour: choose from "),
        ({"space": {"depth": [1, 2, 3]}}, "space.depth: expected a domain, write {choices: [1, 2, 3]}"),
        ({"space": {"depth": 2}}, "space.depth: expected a domain, write {choices: [2]}"),
        ({"resources": {"gpu": 1.5}}, "expected a fraction below 1 or a whole number of GPUs, got 1.5"),
        (
            {"settings": {**FITS, "batch_size": 0}},
            "batch_size 0 cannot be built: batch_size should be a positive",
        ),
        ({"settings": {**FITS, "folds": 50}}, "expected at most 2 folds for 2 embryos, got 50"),
        ({"settings": {**FITS, "patch_size": 1024}}, "expected a patch_size of at most "),
        ({"space": {"depth": {"low": 1, "high": 5}}}, "depth 4 is too deep for patch_size 16"),
        ({"space": {"kernel_size": {"choices": [3, 4]}}}, "expected an odd kernel_size"),
        ({"space": {"learning_rate": {"low": 1, "high": 0.1}}}, "expected low <= high"),
        ({"bundle": "nns"}, "a folder or models:/NAME@ALIAS, got 'nns'"),
    ],
)
def test_a_study_that_cannot_run(refused, tuning, changes, words):
    if "depth" in changes.get("space", {}):
        changes["settings"] = {"folds": 2, "isotropic_spacing_um": 4.0, "patch_size": 16}
    assert words in refused(tuning(**changes))


@pytest.mark.slow
def test_a_machine_that_is_too_small(refused, tuning):
    line = refused(tuning(resources={"cpu": 64, "gpu": 8}))
    assert "a trial needs 64 CPU and 8 GPU, this machine has" in line
    assert "lower the study's resources" in line


def test_a_server_that_does_not_answer(refused, tuning):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = refused(tuning(), "--tracking-uri", f"http://127.0.0.1:{port}")
    assert f"expected an MLflow server at http://127.0.0.1:{port}" in line


def test_a_store_of_another_kind(refused, tuning):
    assert "expected an http, https or sqlite:/// URI" in refused(tuning(), "--tracking-uri", "file:/tmp/x")


def test_a_storage_that_cannot_be_written(refused, tuning, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(tuning(), "--storage", str(tmp_path / "file"))
    assert "cannot write into" in line


def test_an_empty_data_folder(refused, tuning, tmp_path):
    (tmp_path / "empty").mkdir()
    line = refused(tuning(), "--data", str(tmp_path / "empty"))
    assert "expected images in" in line


def test_a_cluster_that_does_not_answer(refused, tuning):
    assert "expected a Ray cluster at 127.0.0.1:1" in refused(tuning(), "--address", "127.0.0.1:1")


def test_nothing_to_resume(refused, tuning):
    assert "expected a study to continue" in refused(tuning(), "--resume")


def test_a_key_given_twice(refused, tuning):
    study = tuning()
    study.file.write_text(study.file.read_text() + "trials: 9\n")
    assert "the key trials is given twice" in refused(study)


def test_a_mistake_in_the_file_is_told_before_anything_slow_is_imported(tuning):
    study = tuning(trails=3)
    code = f"""
import sys
from qcanet_monai.cli.main import main
sys.argv = ["qcanet", *{study.command()[1:]!r}]
try:
    main()
finally:
    print([name for name in ("torch", "ray", "optuna", "monai", "mlflow") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stdout == "[]\n"


def test_merged_keys_are_not_given_twice(tmp_path):
    path = tmp_path / "study.yaml"
    domain = "{low: 1, high: 3, step: 1}"
    path.write_text(f"bundle: nsn\nspace:\n  depth: &d {domain}\n  channels: {{<<: *d, low: 2, high: 4}}\n")
    assert read_study(path).space["channels"].low == 2


def test_a_bundle_with_a_damaged_configuration_is_told_in_one_line(refused, tuning, tmp_path):
    (tmp_path / "mine/configs").mkdir(parents=True)
    (tmp_path / "mine/configs/train.yaml").write_text("depth: [1\n")
    assert "train.yaml cannot be used" in refused(tuning(bundle=str(tmp_path / "mine")))


def test_a_warm_start_of_a_resumed_study(refused, tuning):
    study = tuning()
    told = refused(study, "--resume", "--warm-start", "other")
    assert "expected a warm start at the start of a study only" in told
