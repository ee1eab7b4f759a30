"""Cross-validation by command line: each fold once, best fold kept, resumable."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.io import read_csv
from qcanet_monai.io.dataset import write_datalists

TINY = {"depth": 1, "channels": 2, "patch_size": 16, "isotropic_spacing_um": 4.0}


@pytest.fixture(scope="module")
def tested(tmp_path_factory) -> Path:
    """Simulate a dataset with a test part."""
    folder = tmp_path_factory.mktemp("tested") / "data"
    simulate_dataset(
        folder, embryos=3, test_embryos=2, timepoints=2, seed=6, spacing=(6.0, 3.0, 3.0), workers=1
    )
    return folder


def words(dataset, folder, *options):
    settings = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    return [
        "crossval", "nsn", "--data", dataset, "--storage", folder / "studies", "--cpus", "1",
        "--cache", folder / "cache", "--tracking-uri", f"sqlite:///{folder}/mlflow.db", *settings, *options,
    ]  # fmt: skip


@pytest.mark.slow
def test_each_fold_is_trained_once_and_the_best_kept(tested, tmp_path, qcanet):
    done = qcanet(*words(tested, tmp_path, "--folds", "2", "--epochs", "2"))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "studies/nsn-embryo-2"
    folds = read_csv(folder / "folds.csv")
    assert folds["fold"].tolist() == [0, 1]
    mean, text = folds["iou"].mean(), (folder / "folds.md").read_text()
    assert f"| mean (SD) | {mean:.3f} ({folds['iou'].std(ddof=1):.3f}) |" in text
    Bundle(folder / "best").predictor()
    best = int(folds["iou"].argmax())
    assert f"fold: {best}" in (folder / "best.yaml").read_text()

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("qcanet-nsn").experiment_id])
    (parent,) = [run for run in runs if run.data.tags["role"] == "study"]
    trials = [run for run in runs if run.data.tags["role"] == "trial"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    assert sorted(run.data.params["fold"] for run in trials) == ["0", "1"]

    before = {path: path.stat().st_mtime_ns for path in folder.glob("ray/*/result.json")}
    again = qcanet(*words(tested, tmp_path, "--folds", "2", "--epochs", "2"))
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("ray/*/result.json")} == before
    assert (folder / "folds.md").read_text() == text

    truth = tested / "GroundTruth/test/GroundTruth_QCANet"
    images, out = tested / "Images/test/Images", tmp_path / "table1"
    compared = qcanet("compare", images, "--reference", truth, "--unet", folder / "best", "--out", out)
    assert compared.returncode == 0, compared.stderr
    scores = read_csv(out / "scores.csv")
    assert sorted(set(zip(scores["embryo"].tolist(), scores["frame"].tolist(), strict=True))) == [
        (f"Emb{embryo:02d}", frame) for embryo in (1, 2) for frame in (1, 2)
    ]
    ours = scores["seg"][scores["method"] == "QCANet"]
    assert f"| QCANet | 4 | {scores['iou'][scores['method'] == 'QCANet'].mean():.3f} (" in compared.stdout
    assert ours.mean() > scores["seg"][scores["method"] == "3D U-Net"].mean()  # two epochs train little


@pytest.mark.slow
def test_folds_by_time_hold_a_time_point_of_every_embryo_out(dataset, tmp_path, qcanet):
    options = (
        "--folds",
        "3",
        "--epochs",
        "1",
        "--split",
        "time",
        "--overlay",
        "paper",
        "--overlay",
        "sigmoid",
    )
    done = qcanet(*words(dataset, tmp_path, *options))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "studies/nsn-paper-sigmoid-time-3"
    assert read_csv(folder / "folds.csv")["fold"].tolist() == [0, 1, 2]
    best = (folder / "best.yaml").read_text()
    for setting in ("out_channels: 1", "normalisation: min_max", "batch_size: 1", "channels: 2", "epochs: 1"):
        assert setting in best


def test_what_cannot_be_split_or_set_is_refused(dataset, tmp_path, qcanet):
    for options, text in (
        (("--folds", "2", "--overlay", "papers"), "expected an overlay papers in"),
        (("--folds", "2", "--overlay", "finetune"), "expected plain settings in"),
        (("--folds", "3", "--epochs", "1"), "got 2 embryos for fold"),
        (("--folds", "2", "--epochs", "1", "--split", "stage"), "expected a split by embryo or time"),
        (("--folds", "2", "--epochs", "1", "--set", "depth"), "expected --set KEY=VALUE, got 'depth'"),
    ):
        refused = qcanet(*words(dataset, tmp_path, *options))
        assert refused.returncode == 2
        assert text in refused.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_study_trains_on_a_datalist_wherever_it_was_started(dataset, tuning, tmp_path, monkeypatch, qcanet):
    write_datalists(dataset, tmp_path / "lists", folds=2)
    study = tuning(
        settings={"isotropic_spacing_um": 4.0, "depth": 1, "patch_size": 16, "datalist": "lists/fold01.json"},
        trials=1,
        epochs=1,
    )
    monkeypatch.chdir(tmp_path)
    _, *command = study.command()
    done = qcanet(*command)
    assert done.returncode == 0, done.stderr
    assert len(study.runs()[1]) == 1
