"""Promotion: bundles become versions, the better the champion, both used by name."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pytest
import requests
import torch
import yaml
from monai.bundle import ConfigWorkflow

from qcanet_monai.bundle.bundle import SHIPPED, Bundle, shipped
from qcanet_monai.errors import InputError, QCANetError, RegistryError
from qcanet_monai.io import Volume, read_volume
from qcanet_monai.promotion.promote import Promotion, promote
from qcanet_monai.registry.runs import RunLog, find_run, run_knobs, run_score
from qcanet_monai.registry.store import connect, experiment
from qcanet_monai.registry.versions import fetch, find_version
from qcanet_monai.segmentation.load import load_segmenter

SPACING = (4.0, 2.0, 2.0)


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    """Redirect downloads into a folder of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def worse(tmp_path_factory) -> Path:
    """Write NSN with weights that find nothing."""
    folder = shutil.copytree(SHIPPED / "nsn", tmp_path_factory.mktemp("worse") / "nsn")
    weights = torch.load(folder / "models/model.pt", weights_only=True)
    torch.save({name: torch.zeros_like(value) for name, value in weights.items()}, folder / "models/model.pt")
    return folder


def champion(uri: str, name: str) -> str:
    return str(find_version(connect(uri), f"models:/{name}@champion").version)


def versions(uri: str, name: str) -> list[str]:
    found = connect(uri).search_model_versions(f"name = '{name}'")
    return sorted(str(version.version) for version in found)


def refusal(name: str, uri: str, **options) -> str:
    with pytest.raises(QCANetError) as caught:
        promote(name, tracking_uri=uri, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Story(NamedTuple):
    """NSN promoted, a worse bundle refused and forced, the first promoted again."""

    uri: str
    first: Promotion
    refused: str
    refused_versions: list[str]
    refused_champion: str
    forced: Promotion
    back: Promotion
    again: Promotion


@pytest.fixture(scope="module")
def story(blank_store, worse, dataset, tmp_path_factory) -> Story:
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path_factory.mktemp('story'))}"
    own = {"data": dataset, "tracking_uri": uri}
    first = promote("nsn", bundle="bundled", **own)
    refused = refusal("nsn", uri, bundle=str(worse), data=dataset)
    before = versions(uri, "nsn"), champion(uri, "nsn")
    forced = promote("nsn", bundle=str(worse), force=True, **own)
    back = promote("nsn", version="1", **own)
    again = promote("nsn", version="1", **own)
    return Story(uri, first, refused, *before, forced, back, again)


def test_the_first_promotion_makes_version_1_the_champion(story):
    assert story.first == Promotion("nsn", "1", "iou", pytest.approx(story.first.score))
    assert 0.6 < story.first.score < 1


def test_a_worse_bundle_is_refused_with_both_scores_and_the_champion_stays(story, dataset):
    assert story.refused == (
        f"nsn version 1, the champion, has iou {story.first.score:.4f} on {dataset}, the candidate 0.0000: "
        "not promoted; use --force to promote it"
    )
    assert story.refused_versions == ["1"]
    assert story.refused_champion == "1"


def test_force_promotes_a_worse_one(story):
    assert story.forced == Promotion("nsn", "2", "iou", 0.0, previous="1")


def test_an_older_version_is_promoted_again_by_its_number_and_scores_as_before(story):
    assert story.back == Promotion("nsn", "1", "iou", story.first.score, previous="2", previous_score=0.0)
    assert champion(story.uri, "nsn") == "1"


def test_what_is_the_champion_already_makes_no_new_version(story, dataset):
    assert (story.again.version, story.again.score) == ("1", story.first.score)
    assert promote("nsn", bundle="bundled", data=dataset, tracking_uri=story.uri).version == "1"
    assert versions(story.uri, "nsn") == ["1", "2"]


def test_a_version_keeps_its_own_weights(story, worse):
    for version, bundle in (("1", SHIPPED / "nsn"), ("2", worse)):
        kept = fetch(f"models:/nsn/{version}", story.uri) / "models/model.pt"
        assert kept.read_bytes() == (bundle / "models/model.pt").read_bytes(), version


def test_a_version_is_described_by_its_card_and_tagged_with_score_and_origin(story, dataset):
    version = find_version(connect(story.uri), "models:/nsn/1")
    assert version.description.endswith((SHIPPED / "nsn" / "docs/README.md").read_text(encoding="utf-8"))
    assert f"runs/{version.run_id}" in version.description
    assert version.tags["iou"] == f"{story.first.score:.6f}"
    assert version.tags["bundle"] == "bundled"
    assert version.tags["compared_on"] == str(dataset)
    assert version.tags["git_commit"]
    run = connect(story.uri).get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["iou"] == story.first.score
    (data,) = run.inputs.dataset_inputs
    (output,) = run.outputs.model_outputs
    (metric,) = connect(story.uri).get_logged_model(output.model_id).metrics
    assert (metric.key, metric.value, metric.dataset_name) == ("iou", story.first.score, data.dataset.name)
    assert version.source == f"models:/{output.model_id}"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"bundle": "bundled", "version": "1"},
        {"study": "a", "bundle": "bundled"},
        {"study": "a", "version": "1"},
    ],
)
def test_exactly_one_candidate_is_given(story, dataset, given):
    told = "expected exactly one of --study, --bundle and --version"
    assert refusal("nsn", story.uri, data=dataset, **given) == told


def test_a_bundle_of_two_networks_has_studies_too(story, dataset):
    told = refusal("qcanet", story.uri, data=dataset, study="a")
    assert told.startswith("expected a finished study a of qcanet in ")
    told = "expected exactly one of --study, --bundle and --version"
    assert refusal("qcanet", story.uri, data=dataset, trial="a") == told


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        (
            "unet",
            {"bundle": "bundled"},
            f"expected {', '.join(shipped())}, got 'unet'",
        ),
        (
            "nsn",
            {"version": "7"},
            "expected a version of a registered model (nsn), got models:/nsn/7: register one",
        ),
        (
            "ndn",
            {"version": "1"},
            "expected a version of a registered model (nsn), got models:/ndn/1: register one",
        ),
        (
            "nsn",
            {"version": "one"},
            "expected models:/NAME@ALIAS or models:/NAME/VERSION, got 'models:/nsn/one",
        ),
        (
            "nsn",
            {"bundle": "none"},
            f"expected a bundle: bundled, {', '.join(shipped())}, a folder or models:/",
        ),
        ("nsn", {"study": "none"}, "expected a finished study none of nsn in sqlite:///"),
        (
            "qcanet",
            {},
            "expected a version of a registered model (nsn), got models:/ndn@champion: register one",
        ),
    ],
)
def test_a_candidate_that_is_not_there_is_told(story, dataset, name, given, said):
    assert refusal(name, story.uri, data=dataset, **given).startswith(said)


def test_data_to_compare_on_are_asked_for(story):
    assert refusal("nsn", story.uri, bundle="bundled") == (
        "expected data to compare on: give --data DIR with the validation embryos"
    )


def test_data_that_are_none_are_told(story, tmp_path):
    assert str(tmp_path / "none") in refusal("nsn", story.uri, bundle="bundled", data=tmp_path / "none")


@pytest.mark.parametrize(
    ("file", "said"),
    [("models/model.pt", "found no such file"), ("configs/train.yaml", "configs/train.yaml")],
)
def test_a_bundle_that_cannot_be_scored_is_told(story, dataset, tmp_path, file, said):
    bundle = shutil.copytree(SHIPPED / "nsn", tmp_path / "nsn")
    (bundle / file).unlink()
    assert said in refusal("nsn", story.uri, bundle=str(bundle), data=dataset)


def test_without_a_registry_there_is_nothing_to_promote_from(tmp_path, dataset):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for name, given in (("nsn", {"version": "1"}), ("nsn", {"study": "a"}), ("qcanet", {})):
        assert "found none" in refusal(name, uri, data=dataset, **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reference", ["models:/nsn", "models:/nsn@", "models:/nsn/one", "models:/a/b@c"])
def test_a_malformed_reference_is_told(story, reference):
    with pytest.raises(RegistryError) as caught:
        fetch(reference, story.uri)
    assert str(caught.value) == f"expected models:/NAME@ALIAS or models:/NAME/VERSION, got {reference!r}"


def test_a_reference_to_nothing_lists_the_models_that_there_are(story):
    for reference in ("models:/nns@champion", "models:/nsn@best", "models:/nsn/9"):
        with pytest.raises(RegistryError, match=rf"registered model \(nsn\), got {reference}: register"):
            fetch(reference, story.uri)


@pytest.fixture(scope="module")
def study(blank_store, worse, dataset, tmp_path_factory) -> str:
    """A store with a study: its best trial, a worse, a stopped, one without bundle."""
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path_factory.mktemp('study'))}"
    client = connect(uri)
    where = client, experiment(client, uri, "qcanet-nsn")
    parent = RunLog(*where, {"study_id": "s1", "role": "study"}, "mine")
    parent.describe({}, {"study": "mine", "best_trial": "best"})
    parent.close("FINISHED")
    running = RunLog(*where, {"study_id": "s2", "role": "study"}, "running")
    running.describe({}, {"study": "running"})
    config = Bundle.find("nsn").training | {"validation_volumes": 1}
    for trial, bundle, status in (
        ("best", SHIPPED / "nsn", "finished"),
        ("worse", worse, "finished"),
        ("early", SHIPPED / "nsn", "stopped"),
        ("bare", None, "finished"),
    ):
        run = RunLog(*where, {"study_id": "s1", "role": "trial", "trial_id": trial}, trial, parent=parent.id)
        tags = {"status": status, "epochs": 3, "data": dataset, "data_sha256": "abc", "git_commit": "def"}
        run.describe({"depth": 3}, {"study": "mine", **tags})
        run.text(yaml.safe_dump(config), "config.yaml")
        if bundle is not None:
            run.artifact(bundle, "bundle")
        run.close("FINISHED")
    return uri


def test_a_studys_best_trial_is_promoted_on_the_studys_own_data_and_nothing_is_printed(study, dataset, capfd):
    done = promote("nsn", study="mine", tracking_uri=study)
    assert (done.version, done.metric) == ("1", "iou")
    assert capfd.readouterr() == ("", "")
    version = find_version(connect(study), "models:/nsn@champion")
    trial = connect(study).get_run(version.run_id)
    assert trial.data.tags["trial_id"] == "best"
    expected = {"study": "mine", "trial_id": "best", "epochs": "3", "data_sha256": "abc", "git_commit": "def"}
    assert expected.items() <= version.tags.items()
    assert version.tags["data"] == version.tags["compared_on"] == str(dataset)
    assert promote("nsn", study="mine", tracking_uri=study).version == "1"
    assert "the candidate 0.0000: not promoted" in refusal("nsn", study, study="mine", trial="worse")
    assert versions(study, "nsn") == ["1"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trial": "early"}, "trial early of study mine stopped after 3 epochs: only a trial with its full"),
        ({"trial": "bare"}, "trial bare of study mine left no bundle: it is not on the Pareto front"),
        ({"trial": "none"}, "study mine has no trial none"),
        ({"study": "running"}, "expected a finished study running of nsn in sqlite:///"),
    ],
)
def test_a_trial_that_cannot_be_promoted_is_told(study, given, said):
    assert refusal("nsn", study, **{"study": "mine", **given}).startswith(said)


def test_an_unfinished_studys_state_is_told(study):
    assert refusal("nsn", study, study="running").endswith("found one that is RUNNING")


@pytest.fixture(scope="module")
def registry(blank_store, dataset, tmp_path_factory) -> str:
    """A store with champions of NSN, NDN and QCANet."""
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path_factory.mktemp('registry'))}"
    for name in ("nsn", "ndn"):
        promote(name, bundle="bundled", data=dataset, tracking_uri=uri)
    promote("qcanet", data=dataset, tracking_uri=uri)
    return uri


@pytest.fixture(scope="module")
def volume(dataset) -> Volume:
    return read_volume(dataset / "Images/train/Images/Emb01_t003.tif")


def load(uri: str, reference: str) -> mlflow.pyfunc.PyFuncModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        return mlflow.pyfunc.load_model(reference)


@pytest.fixture(scope="module")
def joined(registry) -> mlflow.pyfunc.PyFuncModel:
    return load(registry, "models:/qcanet@champion")


def predict(model, array, spacing=SPACING) -> np.ndarray:
    return model.predict(array.astype(np.float32), params={"spacing": [float(s) for s in spacing]})


def test_mlflows_qcanet_gives_the_labels_that_both_champions_give(registry, joined, volume):
    named = {"nsn": "models:/nsn@champion", "ndn": "models:/ndn@champion"}
    expected = load_segmenter(**named, tracking_uri=registry)(volume).labels
    found = predict(joined, volume.array, volume.spacing)
    assert expected.max() > 1
    assert found.dtype == np.uint32
    assert np.array_equal(found, expected)


def test_mlflows_network_gives_a_probability(registry, volume):
    found = predict(load(registry, "models:/nsn/1"), volume.array)
    assert found.shape == volume.array.shape
    assert found.dtype == np.float32
    assert 0 <= found.min() < 0.5 < found.max() <= 1
    mask = Bundle.find("models:/nsn/1", tracking_uri=registry).predictor()
    assert np.array_equal(found, mask(volume.array, spacing=SPACING))


@pytest.mark.parametrize("shape", [(16, 32, 40), (5, 17, 23), (1, 8, 8)])
def test_a_volume_may_have_any_size(joined, volume, shape):
    assert predict(joined, volume.array[tuple(slice(n) for n in shape)]).shape == shape


def test_the_spacing_is_asked_for(joined, volume):
    image = volume.array.astype(np.float32)
    for params in (None, {}, {"spacing": [0.0, 0.0, 0.0]}, {"spacing": [4.0, 2.0]}):
        with pytest.raises(InputError, match="expected params="):
            joined.predict(image, params=params)
    with pytest.raises(InputError, match="3 finite positive numbers"):
        joined.predict(image, params={"spacing": [4.0, -2.0, 2.0]})


@pytest.mark.parametrize("name", ["nsn", "ndn", "qcanet"])
def test_no_file_of_a_version_is_a_pickle(registry, name):
    client = connect(registry)
    version = find_version(client, f"models:/{name}@champion")
    place = client.get_model_version_download_uri(name, version.version)
    files = [p for p in Path(place.removeprefix("file://")).rglob("*") if p.is_file()]
    weights = [path for path in files if path.name == "model.pt"]
    assert len(weights) == 1
    for path in weights:
        assert path.read_bytes()[:4] == b"PK\3\4"
        assert torch.load(path, weights_only=True)
    for path in files:
        assert path.suffix not in (".pkl", ".pickle", ".joblib")
        if path not in weights:
            path.read_text(encoding="utf-8")  # a text, not a pickle of any protocol


def test_qcanet_is_a_bundle_with_both_champions_inside(registry, dataset):
    folder = fetch("models:/qcanet@champion", registry)
    for name in ("nsn", "ndn"):
        kept, shipped_state = Bundle(folder).state(name), Bundle.find(name).state()
        assert kept.keys() == shipped_state.keys()
        assert all(torch.equal(value, shipped_state[key]) for key, value in kept.items())
    version = find_version(connect(registry), "models:/qcanet@champion")
    assert version.description.endswith((SHIPPED / "qcanet" / "docs/README.md").read_text(encoding="utf-8"))
    assert (version.tags["nsn_version"], version.tags["ndn_version"]) == ("1", "1")
    assert version.tags["data"] == str(dataset)
    assert 0 < float(version.tags["seg"]) < 1


def test_the_registered_qcanet_runs_as_a_bundle(registry, dataset, tmp_path):
    folder = fetch("models:/qcanet@champion", registry)
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(dataset / "Images/train/Images/Emb01_t003.tif", images)
    workflow = ConfigWorkflow(
        config_file=str(folder / "configs/inference.yaml"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(folder),
        dataset_dir=str(images),
        output_dir=str(tmp_path / "out"),
    )
    workflow.initialize()
    workflow.run()
    run = json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))
    assert [run["models"][name]["bundle"] for name in ("nsn", "ndn")] == [str(folder)] * 2
    assert (tmp_path / "out/Emb01_t003_labels.tif").is_file()


def test_the_shipped_bundle_of_two_networks_is_promoted_like_any_other(blank_store, dataset, tmp_path):
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path)}"
    made = promote("qcanet", bundle="bundled", data=dataset, tracking_uri=uri)
    assert (made.version, made.metric) == ("1", "seg")
    folder = fetch("models:/qcanet@champion", uri)
    assert Bundle(folder).digest == Bundle.find("qcanet").digest
    assert promote("qcanet", version="1", data=dataset, tracking_uri=uri).version == "1"


@pytest.fixture
def server(tmp_path):
    """Start an MLflow server; yield its address, artifact folder and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri, artifacts = f"http://127.0.0.1:{port}", tmp_path / "artifacts"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    command += ["--artifacts-destination", str(artifacts), "--workers", "1"]
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | own, cwd=tmp_path, start_new_session=True
        )
    try:
        for _ in range(600):
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{uri}/health", timeout=5).ok:
                    break
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.2)
        yield uri, artifacts, process
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_over_http_a_version_is_promoted_downloaded_once_and_segments(
    server, dataset, volume, tmp_path, monkeypatch
):
    uri, artifacts, process = server
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = promote("nsn", bundle="bundled", data=dataset, tracking_uri=uri)
    assert (done.version, done.previous) == ("1", None)
    assert not (tmp_path / "cache").exists()

    folder = fetch("models:/nsn@champion", uri)
    assert folder.is_relative_to(tmp_path / "cache/qcanet")
    weights = (folder / "models/model.pt").read_bytes()
    assert weights == (SHIPPED / "nsn" / "models/model.pt").read_bytes()

    shutil.rmtree(artifacts)  # prevents any further download
    assert fetch("models:/nsn/1", uri) == fetch("models:/nsn@champion", uri) == folder
    named = load_segmenter(nsn="models:/nsn@champion", ndn="none", tracking_uri=uri)
    assert np.array_equal(named(volume).labels, load_segmenter(ndn="none")(volume).labels)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with pytest.raises(RegistryError, match=r"expected a bundle at .*: check the MLflow server") as caught:
        fetch("models:/nsn@champion", uri)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "other").rglob("*") if path.is_file()]

    stop(process)
    with pytest.raises(RegistryError, match=f"expected an MLflow server at {uri}, got "):
        fetch("models:/nsn@champion", uri)


@pytest.fixture
def old(blank_store, dataset, tmp_path) -> str:
    """Write a study as version 0.1 did: its bundle and settings are artifacts."""
    uri = f"sqlite:///{shutil.copyfile(blank_store, tmp_path / 'old.db')}"
    client = connect(uri)
    place = client, experiment(client, uri, "qcanet-nsn")
    study = {"study_id": "0" * 32, "study": "old"}
    parent = RunLog(*place, {**study, "role": "study", "best_trial": "001"}, "old")
    parent.close("FINISHED")
    tags = {"role": "trial", "trial_id": "001", "status": "finished", "epochs": "3", "data": str(dataset)}
    trial = RunLog(*place, {**study, **tags}, "001", parent=parent.id)
    trial.describe({"depth": 2}, {})
    trial.log({"iou": 0.5}, 3)
    Bundle.find("nsn").copy_to(tmp_path / "bundle")
    trial.artifact(tmp_path / "bundle", "bundle")
    config = {
        "depth": 2,
        "betas": [0.9, 0.99],
        "epochs": 3,
        "folds": 2,
        "fold": 0,
        "validation_volumes": None,
    }
    trial.text(yaml.safe_dump(config), "config.yaml")
    trial.close("FINISHED")
    return uri


def test_a_study_of_an_earlier_version_can_be_promoted(old):
    done = promote("nsn", study="old", tracking_uri=old)
    assert (done.version, done.metric) == ("1", "iou")
    assert Bundle(fetch("models:/nsn@champion", old)).digest == Bundle.find("nsn").digest


def test_settings_and_score_of_an_earlier_version_are_read(old):
    client = connect(old)
    run = find_run(client, client.get_experiment_by_name("qcanet-nsn").experiment_id, {"trial_id": "001"})
    assert run_knobs(client, run)["betas"] == [0.9, 0.99]
    assert run_score(run, "iou") == 0.5
