"""Results of other commands in MLflow, and lists of studies."""

import shutil

import numpy as np
import pytest

from qcanet_monai.io import write_labels
from qcanet_monai.registry.runs import RunLog
from qcanet_monai.registry.store import connect, experiment
from qcanet_monai.registry.studies import studies


@pytest.fixture
def uri(blank_store, tmp_path) -> str:
    return f"sqlite:///{shutil.copyfile(blank_store, tmp_path / 'mlflow.db')}"


@pytest.fixture
def labels(tmp_path):
    """Write two folders of two label images; one has a nucleus less."""
    for folder, missing in (("reference", 0), ("found", 2)):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            array = np.zeros((4, 12, 12), np.uint16)
            array[1:3, 1:5, 1:5], array[1:3, 7:11, 7:11] = 1, 2
            array[array == missing] = 0
            write_labels(tmp_path / folder / f"{name}.tif", array, spacing=(1.0, 1.0, 1.0))
    return tmp_path


def only_runs(uri, name):
    client = connect(uri)
    return client, client.search_runs([client.get_experiment_by_name(name).experiment_id])


def test_an_evaluation_is_logged_when_asked(qcanet, labels, uri):
    done = qcanet(
        *("evaluate", labels / "found", labels / "reference", "--out", labels / "scores.json"),
        *("--experiment", "mine", "--tracking-uri", uri),
    )
    assert done.returncode == 0, done.stderr
    client, (run,) = only_runs(uri, "mine")
    assert run.info.run_name == "found"
    assert run.data.metrics["seg"] == 0.5
    assert run.data.tags["mlflow.source.name"] == "qcanet evaluate"
    assert run.inputs.dataset_inputs[0].dataset.name == "reference"
    assert f"logged: http://127.0.0.1:5000/#/experiments/{run.info.experiment_id}/runs/" in done.stdout
    assert "scores.json" in {item.path for item in client.list_artifacts(run.info.run_id)}


def test_a_comparison_is_a_run_per_method(qcanet, labels, uri):
    own = ["--also", f"perfect={labels / 'reference'}", "--out", labels / "out"]
    done = qcanet(
        *("evaluate", labels / "found", labels / "reference", *own),
        *("--experiment", "mine", "--tracking-uri", uri),
    )
    assert done.returncode == 0, done.stderr
    _, runs = only_runs(uri, "mine")
    assert {run.info.run_name: run.data.metrics["seg"] for run in runs} == {"found": 0.5, "perfect": 1.0}


def test_nothing_is_logged_unless_asked(qcanet, labels, uri):
    assert qcanet("evaluate", labels / "found", labels / "reference", "--tracking-uri", uri).returncode == 0
    assert [one.name for one in connect(uri).search_experiments()] == ["Default"]


def study_run(uri, name, best, status="FINISHED"):
    client = connect(uri)
    place = experiment(client, uri, "qcanet-nsn")
    key = {"study_id": f"{name}0123456789abcdef", "role": "study", "study": name, "best_trial": "003"}
    run = RunLog(client, place, key, name)
    if best is not None:
        run.log({"best_iou": best}, 3)
    run.close(status)


def test_studies_are_listed_newest_first_with_best_value_and_page(uri, qcanet):
    study_run(uri, "first", 0.5)
    study_run(uri, "second", None, "FAILED")
    found = studies(uri)
    assert [(s.name, s.bundle, s.status, s.objective, s.best) for s in found] == [
        ("second", "nsn", "failed", None, None),
        ("first", "nsn", "finished", "iou", 0.5),
    ]
    told = qcanet("runs", "--tracking-uri", uri).stdout
    assert "iou 0.5000" in told
    assert f"first: http://127.0.0.1:5000/{found[1].page}" in told
    assert "workflowType=machine_learning" in found[1].page


def test_an_empty_store_has_no_studies(uri, qcanet):
    assert "no studies" in qcanet("runs", "--tracking-uri", uri).stdout
    assert qcanet("runs", "--tracking-uri", f"{uri}.missing").returncode == 2
