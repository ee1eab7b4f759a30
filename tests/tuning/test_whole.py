"""A study from its file to its bundle, its plots and its record in MLflow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_every_trial_is_in_mlflow_once_and_none_is_left_running(done):
    parent, trials = done.runs()
    assert parent.info.status == "FINISHED"
    assert len(trials) == 6
    assert {run.info.status for run in trials} == {"FINISHED", "FAILED"}


def test_a_loss_that_is_no_number_and_a_lack_of_memory_fail_their_trials_only(done):
    failed = {r.data.params["channels"]: r for r in done.runs()[1] if r.info.status == "FAILED"}
    assert set(failed) == {"3", "100000"}
    assert "the loss became" in failed["3"].data.tags["failure"]
    assert failed["100000"].data.tags["failure"].startswith("out of memory")


def test_asha_stops_trials_and_the_epochs_they_had_are_recorded(done):
    stopped = [run for run in done.runs()[1] if run.data.tags["status"] == "stopped"]
    assert stopped
    for run in stopped:
        assert 1 <= int(run.data.tags["epochs"]) < 4
        assert done.steps(run) == list(range(1, int(run.data.tags["epochs"]) + 1))


def test_a_trial_records_settings_configuration_cost_origin_and_every_epoch(done):
    run = next(run for run in done.runs()[1] if run.data.tags["status"] == "finished")
    assert run.data.params["betas.0"] == "0.9"
    assert int(run.data.params["parameters"]) > 1000
    assert int(run.data.params["multiply_adds"]) > 10**9
    for tag in ("git_commit", "data_sha256", "version.torch", "version.ray", "seconds", "study"):
        assert run.data.tags[tag]
    assert done.steps(run) == done.steps(run, "loss") == [1, 2, 3, 4]
    client = MlflowClient(done.uri)
    config = yaml.safe_load(Path(client.download_artifacts(run.info.run_id, "config.yaml")).read_text())
    assert config["betas"] == [0.9, 0.999]
    assert config["network_def"]["_target_"] == "qcanet_monai.nn.unet.UNet3D"
    assert config["epochs"] == 4


def test_the_study_keeps_plots_that_share_one_script_a_table_and_the_best_overlay(done):
    client = MlflowClient(done.uri)
    artifacts = {item.path for item in client.list_artifacts(done.runs()[0].info.run_id)}
    assert artifacts >= {"plots.html", "trials.csv", "best.yaml", "summary.json"}
    page = (done.root / "plots.html").read_text()
    for title in ("History", "Importance", "Parallel coordinates", "Slices", "Pareto front"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("plotly.js v") == 1
    assert "src=" not in page.split("<body>")[0]
    assert len((done.root / "trials.csv").read_text().splitlines()) == 7


def test_a_stopped_or_failed_trial_is_not_the_best(done):
    summary = json.loads((done.root / "summary.json").read_text())
    best = next(run for run in done.runs()[1] if run.data.tags["trial_id"] == summary["best_trial"])
    assert best.data.tags["status"] == "finished"
    assert summary["trials"]["failed"] == 2


def test_monai_trains_with_the_best_settings_as_an_overlay(done, tmp_path):
    configs = [str(ROOT / "bundles/nsn/configs/train.yaml"), str(done.root / "best.yaml")]
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(ROOT / "bundles/nsn")]
    command += ["--config_file", str(configs), "--dataset_dir", str(done.data)]
    command += ["--output_dir", str(tmp_path / "out"), "--epochs", "1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert "channels: 3" in (tmp_path / "out/configs/inference.yaml").read_text()


def test_the_winner_is_promoted_and_segments_by_name(done, tmp_path):
    qcanet = done.command()[0]
    own = ["--tracking-uri", done.uri]
    promoted = subprocess.run(
        [qcanet, "promote", "nsn", "--study", "tiny", *own], capture_output=True, text=True
    )
    assert promoted.returncode == 0, promoted.stderr
    assert "models:/nsn@champion is version 1: iou" in promoted.stdout
    images = str(done.data / "Images/train/Images")
    segmented = subprocess.run(
        [qcanet, "segment", images, "--nsn", "models:/nsn@champion", "--out", str(tmp_path), *own],
        capture_output=True,
        text=True,
    )
    assert segmented.returncode == 0, segmented.stderr
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["models"]["nsn"]["reference"] == "models:/nsn@champion"


def test_a_trial_that_was_stopped_early_cannot_be_promoted(done):
    stopped = next(run for run in done.runs()[1] if run.data.tags["status"] == "stopped")
    command = [done.command()[0], "promote", "nsn", "--study", "tiny", "--tracking-uri", done.uri]
    ran = subprocess.run([*command, "--trial", stopped.data.tags["trial_id"]], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "only one that had its full budget can be promoted" in ran.stderr


def test_the_same_name_again_needs_resume(done):
    again = done.run()
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("qcanet: study tiny exists in ")
    assert "--resume" in again.stderr


def test_resuming_a_study_that_is_done_changes_nothing(done):
    before = {run.info.run_id: run.info.end_time for run in done.runs()[1]}
    again = done.run("--resume")
    assert again.returncode == 0, again.stderr
    assert {run.info.run_id: run.info.end_time for run in done.runs()[1]} == before


def test_a_study_that_changed_is_not_resumed(done):
    text = done.file.read_text()
    try:
        done.file.write_text(text.replace("epochs: 4", "epochs: 5"))
        again = done.run("--resume")
    finally:
        done.file.write_text(text)
    assert again.returncode == 2
    assert "epochs changed since" in again.stderr
