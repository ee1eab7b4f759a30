"""Train, resume, score, run, register and load every bundle."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ignite.engine import Events
from monai.bundle import ConfigWorkflow, load

from qcanet_monai.bundle.bundle import SHIPPED, Bundle, shipped
from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.io import read_csv, read_labels, read_volume
from qcanet_monai.io.dataset import pairs
from qcanet_monai.promotion.promote import promote, score_bundle
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.training.export import flat

NAMES = shipped()
COARSE = {"cells": (1.6, 0.8, 0.8), "spindle": (3.0, 0.8, 0.8)}
SMALL = {
    "patch_size": 32,
    "patches_per_volume": 2,
    "batch_size": 1,
    "workers": 1,
    "seed": 3,
    "learning_rate": 1e-3,
}


def config(name, file):
    return yaml.safe_load((SHIPPED / name / "configs" / f"{file}.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Simulate a few volumes of a kind, coarser than usual."""

    @cache
    def made(settings) -> Path:
        folder = tmp_path_factory.mktemp("simulated") / "data"
        spacing = COARSE.get(settings, (3.5, 1.6, 1.6))
        simulate_dataset(
            folder, embryos=3, timepoints=2, seed=7, settings=settings, spacing=spacing, workers=1
        )
        return folder

    return made


@pytest.fixture(scope="module")
def data(name, simulated) -> Path:
    return simulated(config(name, "simulated")["simulation"])


@pytest.fixture(scope="module")
def overrides(name, data, tmp_path_factory) -> dict:
    known = Bundle.find(name).training
    small = {key: value for key, value in SMALL.items() if key in known}
    output = tmp_path_factory.mktemp(f"{name}-run") / "run"
    return {**small, "dataset_dir": str(data), "output_dir": str(output), "folds": 3}


def train(name, overrides, epochs) -> tuple[ConfigWorkflow, list[float]]:
    workflow = Bundle.find(name).workflow(**overrides, epochs=epochs)
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    losses: list[float] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output[0]["loss"]))
    )
    workflow.run()
    return workflow, losses


@pytest.fixture(scope="module")
def trained(name, overrides) -> tuple[Path, list[float]]:
    _, losses = train(name, overrides, 2)
    return Path(overrides["output_dir"]), losses


def test_training_lacks_no_property(name, overrides, tmp_path):
    workflow = Bundle.find(name).workflow(**(overrides | {"cache_rate": 0.0, "output_dir": str(tmp_path)}))
    workflow.initialize()
    assert workflow.check_properties() == []


def test_the_loss_falls_over_two_epochs(trained):
    losses = torch.tensor(trained[1])
    assert losses.isfinite().all()
    first, second = losses.chunk(2)
    assert second.mean() < first.mean()


def test_a_training_resumes_where_it_ended(name, overrides, trained):
    before = torch.load(trained[0] / "last.pt", weights_only=True)
    _, losses = train(name, overrides, 3)
    after = torch.load(trained[0] / "last.pt", weights_only=True)
    assert (before["epoch"], after["epoch"]) == (2, 3)
    assert len(losses) == len(trained[1]) // 2


def test_its_weights_are_scored(name, overrides, trained, tmp_path):
    scores = score_bundle(Bundle(trained[0]), {**overrides, "output_dir": str(tmp_path)})
    key = next(iter(scores))
    assert key in config(name, "train")["validate"]["key_metric"]
    best = torch.load(trained[0] / "last.pt", weights_only=True)["best"]
    assert scores[key] == pytest.approx(best)
    shipped = score_bundle(Bundle.find(name), {**overrides, "output_dir": str(tmp_path)})
    assert max(best, 0.3) < shipped[key] < 1


def method(name, bundle, **options):
    if name in ("nsn", "ndn"):  # need each other to find objects
        return load_segmenter(**{name: bundle}, **options)
    return load_segmenter(bundle, **options)


def test_it_segments_images(name, data, trained, tmp_path):
    images = [Path(item["image"]) for item in pairs(data, "train", "QCANet")[:2]]
    result = segment_files(images, tmp_path, method(name, trained[0]))
    assert not result.failures
    for image in images:
        labels = read_labels(tmp_path / f"{image.stem}_labels.tif")
        assert labels.array.shape == read_volume(image).array.shape
        assert labels.array.max() == result.counts[image]
        assert (tmp_path / f"{image.stem}_overlay.png").is_file()
    assert len(read_csv(tmp_path / "nuclei.csv")["label"]) == sum(result.counts.values())


def test_it_is_registered_and_loaded_by_name(name, data, trained, blank_store, tmp_path, monkeypatch):
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path)}"
    made = promote(name, bundle=str(trained[0]), data=data, tracking_uri=uri)
    assert (made.name, made.version) == (name, "1")
    named = Bundle.find(f"models:/{name}@champion", tracking_uri=uri)
    for part in named.networks:
        ours, theirs = Bundle(trained[0]).state(part), named.state(part)
        assert ours
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    image = read_volume(pairs(data, "train", "QCANet")[0]["image"])
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    found = model.predict(image.array.astype(np.float32), params={"spacing": list(image.spacing)})
    assert found.shape == image.array.shape


def test_monai_loads_the_shipped_network_with_its_weights(name):
    network = load(name, bundle_dir=str(SHIPPED), workflow_type="inference")
    expected = torch.load(SHIPPED / name / "models/model.pt", weights_only=True)
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


def test_training_and_inference_agree_on_what_is_exported(name):
    train_config, inference = config(name, "train"), config(name, "inference")
    for knob, reference in flat(train_config["export"]["knobs"]).items():
        if "max_diameter_voxels" not in knob and knob in flat(inference):
            key = reference.removeprefix("@").removeprefix("network_def#")
            assert flat(train_config)[key] == flat(inference)[knob], knob
