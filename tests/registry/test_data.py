"""Datasets as MLflow knows them: contents, and one digest for the same files."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from qcanet_monai.io import read_labels, write_labels
from qcanet_monai.io.dataset import split
from qcanet_monai.registry.data import describe_data, describe_images, describe_labels
from qcanet_monai.registry.runs import RunLog
from qcanet_monai.registry.store import connect, experiment


def items(root, target="NSN", subset="validation"):
    return split(root, target, subset, folds=2)


@pytest.mark.parametrize("target", ["NSN", "NDN", "QCANet"])
def test_a_subset_states_its_volumes_embryos_voxels_and_nuclei(dataset, target):
    found = describe_data(dataset, items(dataset, target), subset="validation", context="validation")
    truth = [read_labels(item["label"]).array for item in items(dataset, "QCANet")]
    assert found.profile == {
        "volumes": 3,
        "embryos": 1,
        "voxels": sum(array.size for array in truth),
        "nuclei": sum(len(np.unique(array)) - 1 for array in truth),
    }
    assert (found.name, found.source) == ("data validation", str(dataset))


def test_masks_have_no_number_of_nuclei(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    shutil.rmtree(copy / "GroundTruth/train/GroundTruth_QCANet")
    found = describe_data(copy, items(copy), subset="validation", context="validation")
    assert set(found.profile) == {"volumes", "embryos", "voxels"}


def test_the_digest_is_of_the_contents(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "elsewhere")
    of = [describe_data(root, items(root), subset="x", context="validation") for root in (dataset, copy)]
    assert of[0].digest == of[1].digest
    changed = Path(items(copy)[0]["image"])
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert describe_data(copy, items(copy), subset="x", context="validation").digest != of[0].digest


def test_runs_on_the_same_data_share_a_dataset(dataset, blank_store, tmp_path):
    uri = f"sqlite:///{shutil.copyfile(blank_store, tmp_path / 'mlflow.db')}"
    client = connect(uri)
    where = client, experiment(client, uri, "mine")
    data = describe_data(dataset, items(dataset), subset="validation", context="validation")
    for name in ("a", "b"):
        RunLog(*where, {"name": name}, name).log_data([data])
    found = [run.inputs.dataset_inputs[0] for run in client.search_runs([where[1]])]
    assert {(one.dataset.name, one.dataset.digest) for one in found} == {(data.name, data.digest)}
    assert found[0].tags[0].value == "validation"


def test_reference_labels_are_described_by_their_files(tmp_path):
    labels = np.zeros((4, 8, 8), np.uint32)
    labels[1, 2, 2], labels[2, 5, 5] = 1, 4_000_000_000  # too large for a table of labels
    for name in ("a.tif", "b.tif"):
        write_labels(tmp_path / name, labels, spacing=(1.0, 1.0, 1.0))
    (tmp_path / "notes.txt").write_text("not an image")
    found = describe_labels(tmp_path)
    assert found.profile == {"volumes": 2, "voxels": 512, "nuclei": 4}
    assert describe_labels(tmp_path / "a.tif").profile == {"volumes": 1, "voxels": 256, "nuclei": 2}


def test_images_are_described_by_their_contents_also_of_folders(tmp_path):
    (tmp_path / "b.zarr/0").mkdir(parents=True)
    (tmp_path / "a.tif").write_bytes(b"one")
    (tmp_path / "b.zarr/0/0").write_bytes(b"two")
    images = [tmp_path / "a.tif", tmp_path / "b.zarr"]
    found = describe_images(images, "adaptation")
    assert (found.name, found.profile, found.context) == (tmp_path.name, {"volumes": 2}, "adaptation")
    (tmp_path / "b.zarr/0/0").write_bytes(b"three")
    assert describe_images(images, "adaptation").digest != found.digest
