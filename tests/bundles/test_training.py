"""Both bundles train as their users train them: from the command line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]
TRACKING = str(ROOT / "bundles/nsn/configs/tracking.yaml")
QUICK = ("--depth", "1", "--channels", "2", "--patch_size", "16", "--workers", "1")


def run(name: str, *options: str, overlays: tuple[str, ...] = (), launcher: tuple[str, ...] = ()) -> str:
    done = start(name, *options, overlays=overlays, launcher=launcher)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def fail(name: str, *options: str) -> str:
    done = start(name, *options)
    assert done.returncode != 0
    return done.stderr


def start(
    name: str, *options: str, overlays: tuple[str, ...] = (), launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    configs = [str(ROOT / "bundles" / name / "configs" / f"{file}.yaml") for file in ("train", *overlays)]
    command = [*(launcher or (sys.executable,)), "-m", "monai.bundle", "run"]
    command += ["--bundle_root", str(ROOT / "bundles" / name), "--config_file", str(configs), *options]
    command += ["--logging_file", str(ROOT / "bundles" / name / "configs/logging.conf")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())


def _environment() -> dict[str, str]:
    return os.environ | {"MONAI_FAIL_ON_DUPLICATE_CONFIG": "1", "OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> Path:
    """NSN after two epochs, tracked."""
    output = tmp_path_factory.mktemp("nsn") / "run"
    before = _status()
    run(
        "nsn",
        *(
            "--dataset_dir",
            str(dataset),
            "--output_dir",
            str(output),
            "--epochs",
            "2",
            "--tracking",
            TRACKING,
        ),
        *QUICK,
    )
    assert _status() == before, "a training leaves the clone clean"
    return output


def state(output: Path) -> dict:
    return torch.load(output / "last.pt", weights_only=True)


def test_a_training_leaves_checkpoint_best_weights_and_a_bundle(trained):
    assert state(trained)["epoch"] == 2
    assert 0 < state(trained)["best"] <= 1
    assert (trained / "models/model.pt").is_file()
    config = yaml.safe_load((trained / "configs/inference.yaml").read_text(encoding="utf-8"))
    assert (config["depth"], config["channels"], config["kernel_size"]) == (1, 2, 3)


def _status() -> str:
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_the_trained_folder_is_a_model_reference(trained, dataset):
    from qcanet_monai.io import read_volume
    from qcanet_monai.workflows.segment import Segmenter

    image = next((dataset / "Images/train/Images").glob("*.tif"))
    segmenter = Segmenter(trained, "none")
    assert segmenter.nsn.network.depth == 1
    volume = read_volume(image)
    assert segmenter(volume).labels.shape == volume.array.shape


def test_a_second_run_resumes_where_the_first_ended(trained, dataset):
    before = state(trained)
    printed = run(
        "nsn",
        *(
            "--dataset_dir",
            str(dataset),
            "--output_dir",
            str(trained),
            "--epochs",
            "3",
            "--tracking",
            TRACKING,
        ),
        *QUICK,
    )
    after = state(trained)
    assert "resumed from" in printed
    assert "after epoch 2" in printed
    assert (before["epoch"], after["epoch"]) == (2, 3)
    assert after["iteration"] == before["iteration"] * 3 // 2
    assert after["best"] >= before["best"]
    history = _only_run(trained)
    assert [m.step for m in history("validation_iou")] == [m.step for m in history("loss")] == [1, 2, 3]
    assert "Epoch[3]" in (trained / "train.log").read_text(encoding="utf-8")


def test_a_run_with_all_epochs_done_changes_nothing(trained, dataset):
    before = (trained / "models/model.pt").read_bytes()
    epochs = str(state(trained)["epoch"])
    options = ("--dataset_dir", str(dataset), "--output_dir", str(trained), "--epochs", epochs)
    printed = run("nsn", *options, *QUICK)
    assert "nothing left to train" in printed
    assert (trained / "models/model.pt").read_bytes() == before


def test_another_architecture_is_not_resumed(trained, dataset):
    before = (trained / "last.pt").read_bytes()
    options = ("--dataset_dir", str(dataset), "--output_dir", str(trained), "--epochs", "9")
    assert "another architecture" in fail("nsn", *options, *QUICK, "--network_def#channels", "3")
    assert (trained / "last.pt").read_bytes() == before


def test_an_overridden_network_definition_is_what_is_exported(dataset, tmp_path):
    options = ("--dataset_dir", str(dataset), "--output_dir", str(tmp_path), "--epochs", "1")
    run("nsn", *options, *QUICK, "--network_def#channels", "3")
    config = yaml.safe_load((tmp_path / "configs/inference.yaml").read_text(encoding="utf-8"))
    assert config["channels"] == 3
    from qcanet_monai.inference.predictor import Predictor

    assert Predictor(tmp_path).network.head.in_channels == 6


def _only_run(output: Path) -> Callable[[str], list]:
    """The metric histories of the one run that there must be."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    (only,) = client.search_runs([client.get_experiment_by_name("qcanet-nsn").experiment_id])
    assert only.info.status == "FINISHED"
    assert only.data.params["depth"] == "1"
    return lambda name: client.get_metric_history(only.info.run_id, name)


def test_evaluate_scores_a_trained_folder(trained, dataset, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(trained)]
    files = [str(trained / "configs" / f"{file}.yaml") for file in ("train", "evaluate")]
    command += ["--config_file", str(files), "--dataset_dir", str(dataset), "--output_dir", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, env=_environment())
    assert "iou" in (tmp_path / "metrics.csv").read_text(encoding="utf-8")


def test_inference_writes_a_mask_on_the_native_grid(trained, dataset, tmp_path):
    from qcanet_monai.io import read_labels

    images = dataset / "Images/train/Images"
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(trained)]
    command += ["--config_file", str(trained / "configs/inference.yaml")]
    command += ["--dataset_dir", str(images), "--output_dir", str(tmp_path / "masks")]
    subprocess.run(command, check=True, capture_output=True, env=_environment())
    for image in images.glob("*.tif"):
        mask = read_labels(tmp_path / "masks" / f"{image.stem}_nsn.tif")
        truth = read_labels(dataset / "GroundTruth/train/GroundTruth_NSN" / image.name)
        assert mask.array.shape == truth.array.shape
        assert mask.spacing == pytest.approx(truth.spacing)


def test_ndn_trains_stops_early_and_is_scored_by_detection(dataset, tmp_path):
    output = tmp_path / "ndn"
    printed = run(
        "ndn",
        *("--dataset_dir", str(dataset), "--output_dir", str(output), "--epochs", "9", "--patience", "1"),
        *("--learning_rate", "0.0", "--tracking", "mlflow", *QUICK),
    )
    # with a learning rate of 0 nothing but batch statistics moves: it must end before all nine epochs
    assert "detection_f" in printed
    assert state(output)["epoch"] < 9
    assert "stop" in printed
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    (only,) = client.search_runs([client.get_experiment_by_name("qcanet-ndn").experiment_id])
    assert "detection_f" in only.data.metrics


def test_the_multi_gpu_overlay_trains_in_two_processes(dataset, tmp_path):
    output = tmp_path / "two"
    launcher = (
        sys.executable,
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
    )
    run(
        "nsn",
        *("--dataset_dir", str(dataset), "--output_dir", str(output), "--epochs", "1", "--batch_size", "1"),
        *("--tracking", TRACKING, *QUICK),
        overlays=("multi_gpu_train",),
        launcher=launcher,
    )
    assert state(output)["epoch"] == 1
    # three volumes over two processes: two steps each, not three
    assert state(output)["iteration"] == 2
    assert not any(key.startswith("module.") for key in state(output)["network"])
    only = _only_run(output)
    assert [m.step for m in only("validation_iou")] == [1]


def test_an_unknown_loss_is_told(dataset, tmp_path):
    options = ("--dataset_dir", str(dataset), "--output_dir", str(tmp_path), "--loss", "dise")
    assert "dice_cross_entropy" in fail("nsn", *options)


@pytest.mark.parametrize("name", ["nsn", "ndn"])
def test_the_sigmoid_overlay_trains_a_bundle_of_one_channel(name, dataset, tmp_path):
    from qcanet_monai.inference.predictor import Predictor
    from qcanet_monai.io import read_labels, read_volume

    output, image = tmp_path / "out", dataset / "Images/train/Images/Emb01_t001.tif"
    options = ("--dataset_dir", str(dataset), "--output_dir", str(output), "--epochs", "1")
    run(name, *options, *QUICK, overlays=("sigmoid",))
    predictor = Predictor(output, precision="fp32")
    assert predictor.network.head.out_channels == 1
    volume = read_volume(image)
    probability = predictor(volume.array, spacing=volume.spacing)
    assert 0 < probability.min() < probability.max() < 1
    threshold = float(np.median(probability))
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--bundle_root",
        str(output),
        "--precision",
        "fp32",
    ]
    command += ["--config_file", str(output / "configs/inference.yaml"), "--threshold", str(threshold)]
    command += ["--dataset_dir", str(image), "--output_dir", str(tmp_path / "masks"), "--smallest", "1"]
    subprocess.run(command, check=True, capture_output=True, env=_environment())
    mask = read_labels(tmp_path / f"masks/Emb01_t001_{name}.tif").array > 0
    assert (mask != (probability >= threshold)).mean() < 0.001
