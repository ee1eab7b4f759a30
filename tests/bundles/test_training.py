"""NSN and NDN train, resume and export, in this process and by command line."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import run_bundle
from mlflow import MlflowClient

from qcanet_monai.bundle.bundle import SHIPPED, Bundle
from qcanet_monai.errors import QCANetError
from qcanet_monai.io import read_labels, read_volume
from qcanet_monai.segmentation.load import load_segmenter

ROOT = Path(__file__).parents[2]
TRACKING = str(ROOT / "bundles/nsn/configs/tracking.yaml")
QUICK = {"depth": 1, "channels": 2, "patch_size": 16, "workers": 1}


def train(name: str, dataset_dir: Path, output_dir: Path, *overlays: str, **overrides: object) -> None:
    paths = {"dataset_dir": dataset_dir, "output_dir": output_dir}
    run_bundle(SHIPPED / name, "train", *overlays, **(QUICK | paths | overrides))


def refusal(*arguments, **overrides: object) -> str:
    """Return the reason of a failed training, which MONAI may have wrapped."""
    with pytest.raises((QCANetError, RuntimeError)) as caught:
        train(*arguments, **overrides)
    error: BaseException | None = caught.value
    while not isinstance(error, QCANetError):
        error = error.__cause__
    return str(error)


def state(output: Path) -> dict:
    return torch.load(output / "last.pt", weights_only=True)


def tracked(output: Path) -> Callable[[str], list[int]]:
    """Return the logged steps of a metric in the only run."""
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    (only,) = client.search_runs([client.get_experiment_by_name("qcanet-nsn").experiment_id])
    assert only.info.status == "FINISHED"
    assert only.data.params["depth"] == "1"
    return lambda metric: [m.step for m in client.get_metric_history(only.info.run_id, metric)]


@pytest.fixture(scope="module")
def trained(dataset, blank_store, tmp_path_factory) -> Path:
    output = Path(shutil.copy(blank_store, tmp_path_factory.mktemp("nsn"))).parent
    train("nsn", dataset, output, epochs=2, tracking=TRACKING)
    return output


@pytest.fixture
def log(caplog) -> Callable[[], str]:
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


def test_a_training_leaves_checkpoint_best_weights_and_a_bundle(trained):
    assert state(trained)["epoch"] == 2
    assert 0 < state(trained)["best"] <= 1
    assert (trained / "models/model.pt").is_file()
    config = yaml.safe_load((trained / "configs/inference.yaml").read_text(encoding="utf-8"))
    assert (config["depth"], config["channels"], config["kernel_size"]) == (1, 2, 3)


def test_the_trained_folder_is_a_model_reference(trained, dataset):
    segmenter = load_segmenter(nsn=trained, ndn="none")
    assert segmenter.predictors["nsn"].network.depth == 1
    volume = read_volume(dataset / "Images/train/Images/Emb01_t001.tif")
    assert segmenter(volume).labels.shape == volume.array.shape


def test_a_second_run_resumes_where_the_first_ended(trained, dataset, log):
    before = state(trained)
    train("nsn", dataset, trained, epochs=3, tracking=TRACKING)
    after = state(trained)
    assert f"resumed from {trained / 'last.pt'} after epoch 2" in log()
    assert (before["epoch"], after["epoch"]) == (2, 3)
    assert after["iteration"] == before["iteration"] * 3 // 2
    assert after["best"] >= before["best"]
    steps = tracked(trained)
    assert steps("validation_iou") == steps("loss") == [1, 2, 3]
    assert "Epoch[3]" in (trained / "train.log").read_text(encoding="utf-8")


def test_a_run_with_all_epochs_done_changes_nothing(trained, dataset, log):
    before = (trained / "models/model.pt").read_bytes()
    train("nsn", dataset, trained, epochs=state(trained)["epoch"])
    assert "nothing left to train" in log()
    assert (trained / "models/model.pt").read_bytes() == before


def test_another_architecture_is_not_resumed(trained, dataset):
    before = (trained / "last.pt").read_bytes()
    options = {"epochs": 9, "network_def#channels": 3}
    assert "another architecture" in refusal("nsn", dataset, trained, **options)
    assert (trained / "last.pt").read_bytes() == before


def test_an_overridden_network_definition_is_what_is_exported(dataset, tmp_path):
    train("nsn", dataset, tmp_path, epochs=1, **{"network_def#channels": 3})
    config = yaml.safe_load((tmp_path / "configs/inference.yaml").read_text(encoding="utf-8"))
    assert config["channels"] == 3
    assert Bundle(tmp_path).predictor().network.head.in_channels == 6


def test_evaluate_gives_the_score_of_the_best_validation(trained, dataset, tmp_path):
    run_bundle(trained, "train", "evaluate", dataset_dir=dataset, output_dir=tmp_path)
    name, value = (tmp_path / "metrics.csv").read_text(encoding="utf-8").strip().split(",")
    assert (name, float(value)) == ("iou", pytest.approx(state(trained)["best"]))


def test_inference_writes_a_mask_on_the_native_grid(trained, dataset, tmp_path):
    images = dataset / "Images/train/Images"
    run_bundle(trained, "inference", dataset_dir=images, output_dir=tmp_path / "masks")
    for image in images.glob("*.tif"):
        mask = read_labels(tmp_path / "masks" / f"{image.stem}_nsn.tif")
        truth = read_labels(dataset / "GroundTruth/train/GroundTruth_NSN" / image.name)
        assert mask.array.shape == truth.array.shape
        assert mask.spacing == pytest.approx(truth.spacing)


def test_ndn_trains_stops_early_and_is_scored_by_detection(dataset, blank_store, tmp_path, log):
    shutil.copy(blank_store, tmp_path)
    # a learning rate of 0 moves only batch statistics: stops before all nine epochs
    train("ndn", dataset, tmp_path, epochs=9, patience=1, learning_rate=0.0, tracking="mlflow")
    assert state(tmp_path)["epoch"] < 9
    assert "no better validation for 1 times: stop" in log()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (only,) = client.search_runs([client.get_experiment_by_name("qcanet-ndn").experiment_id])
    assert "detection_f" in only.data.metrics


def test_an_unknown_loss_is_told(dataset, tmp_path):
    assert "dice_cross_entropy" in refusal("nsn", dataset, tmp_path, loss="dise")


@pytest.mark.parametrize("name", ["nsn", "ndn"])
def test_the_sigmoid_overlay_trains_a_bundle_of_one_channel(name, dataset, tmp_path):
    output, image = tmp_path / "out", dataset / "Images/train/Images/Emb01_t001.tif"
    train(name, dataset, output, "sigmoid", epochs=1)
    predictor = Bundle(output).predictor(precision="fp32")
    assert predictor.network.head.out_channels == 1
    volume = read_volume(image)
    probability = predictor(volume.array, spacing=volume.spacing)
    assert 0 < probability.min() < probability.max() < 1
    threshold = float(np.median(probability))
    options = {"threshold": threshold, "precision": "fp32", "min_size": 1}
    run_bundle(output, "inference", dataset_dir=image, output_dir=tmp_path / "masks", **options)
    mask = read_labels(tmp_path / f"masks/Emb01_t001_{name}.tif").array > 0
    assert (mask != (probability >= threshold)).mean() < 0.001


def command(name: str, dataset: Path, output: Path, *overlays: str, **overrides: object) -> list[str]:
    configs = [str(ROOT / "bundles" / name / "configs" / f"{file}.yaml") for file in ("train", *overlays)]
    bundle = ROOT / "bundles" / name
    paths = {"bundle_root": bundle, "dataset_dir": dataset, "output_dir": output}
    paths["logging_file"] = bundle / "configs/logging.conf"
    options = {"config_file": configs, **paths, "tracking": TRACKING, **QUICK, **overrides}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return ["-m", "monai.bundle", "run", *words]


def git_status() -> str:
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_the_command_line_trains_with_overlays_in_two_processes_and_leaves_the_clone_clean(dataset, tmp_path):
    before = git_status()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    options = command("nsn", dataset, tmp_path / "two", "multi_gpu_train", epochs=1, batch_size=1)
    env = os.environ | {"MONAI_FAIL_ON_DUPLICATE_CONFIG": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launcher, *options], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert git_status() == before
    made = state(tmp_path / "two")
    assert made["epoch"] == 1
    # three volumes on two processes: two steps each, not three
    assert made["iteration"] == 2
    assert not any(key.startswith("module.") for key in made["network"])
    assert tracked(tmp_path / "two")("validation_iou") == [1]
