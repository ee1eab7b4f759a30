"""MONAI transforms between labels, targets and objects keep contents and grid."""

from functools import partial

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, RandCropByPosNegLabeld

from qcanet_monai.core.instances.density import labels_from_density
from qcanet_monai.core.instances.instances import Instances
from qcanet_monai.core.targets.build import cell_target, joint_target, mask_target
from qcanet_monai.nn.activations import mask_and_density, probabilities
from qcanet_monai.nn.metatensor import as_metatensor, spacing_of
from qcanet_monai.transforms.objects import CentreWindowd, Objectsd, Targetd

SPACING = (2.0, 0.5, 1.0)


@pytest.fixture
def labels():
    found = np.zeros((4, 12, 10), np.int32)
    found[1:3, 2:6, 2:5] = 300
    found[1:3, 7:11, 4:8] = 2
    return found


@pytest.mark.parametrize("target", [joint_target, cell_target, mask_target])
def test_labels_become_what_the_target_makes_of_them_on_the_same_grid(labels, target):
    item = {"label": as_metatensor(labels, SPACING, "a.tif"), "other": 3}
    done = Targetd("label", target)(item)
    assert np.array_equal(done["label"], target(labels, spacing=SPACING))
    assert done["label"].dtype == torch.float32
    assert isinstance(done["label"], MetaTensor)
    assert spacing_of(done["label"]) == SPACING
    assert done["label"].meta["filename_or_obj"] == "a.tif"
    assert done["other"] == 3
    assert np.array_equal(item["label"][0], labels)


def test_the_target_is_told_an_items_annotation_and_only_if_it_has_one(labels):
    told = []

    def target(found, **options):
        told.append(options)
        return np.zeros((2, *found.shape), np.float32)

    for item in ({}, {"annotation": "centres"}):
        Targetd(["a", "b"], target)(
            {"a": as_metatensor(labels, SPACING), "b": as_metatensor(labels, SPACING)} | item
        )
    alone = {"spacing": SPACING}
    assert told == [alone, alone, alone | {"annotation": "centres"}, alone | {"annotation": "centres"}]


@pytest.mark.filterwarnings("ignore:Num foregrounds")  # with an unknown mask, a patch may lie anywhere
@pytest.mark.parametrize("annotation", ["instances", "centres", "mask"])
def test_patches_are_cut_of_every_kind_of_annotation(labels, annotation):
    item = {
        "image": as_metatensor(labels.astype(np.float32), SPACING),
        "label": as_metatensor(labels, SPACING),
        "annotation": annotation,
    }
    cut = RandCropByPosNegLabeld(["image", "label"], "label", (4, 4, 4), num_samples=3)
    (patches,) = DataLoader(Dataset([item], Compose([Targetd("label", joint_target), cut])), num_workers=0)
    assert patches["label"].shape == (3, 3, 4, 4, 4)
    nan = patches["label"].isnan().flatten(2).all(2)
    expected = {"instances": [0, 0, 0], "centres": [1, 1, 0], "mask": [0, 0, 1]}[annotation]
    assert nan.int().tolist() == [expected] * 3


def test_the_middle_is_cut_out_and_what_lacks_is_0():
    image = torch.arange(1.0, 6).expand(2, 1, 2, 5) * torch.tensor([1, 10]).view(2, 1, 1, 1)
    item = {"image": MetaTensor(image, affine=torch.diag(torch.tensor([*SPACING, 1]))), "label": "as it is"}
    done = CentreWindowd("image", (2, 2, 3))(item)
    assert done["image"].tolist() == [
        [[[2, 3, 4], [2, 3, 4]], [[0, 0, 0], [0, 0, 0]]],
        [[[20, 30, 40], [20, 30, 40]], [[0, 0, 0], [0, 0, 0]]],
    ]
    assert spacing_of(done["image"]) == SPACING
    assert done["label"] == "as it is"
    assert item["image"].shape == (2, 1, 2, 5)


def test_a_window_may_come_as_a_list_and_labels_stay_whole_numbers(labels):
    done = CentreWindowd(["image", "label"], [4, 4, 4])(
        {"image": as_metatensor(labels.astype(np.float32), SPACING), "label": as_metatensor(labels, SPACING)}
    )
    assert done["label"].dtype == torch.int32
    assert np.array_equal(done["label"][0], labels[:, 4:8, 3:7])
    assert np.array_equal(done["label"], done["image"])


def test_without_a_window_everything_stays(labels):
    image = as_metatensor(labels, SPACING)
    assert CentreWindowd("image", None)({"image": image})["image"] is image


def test_outputs_become_the_labels_that_the_labelling_finds_on_the_images_grid(labels):
    seen = []

    def to_instances(outputs, *, spacing):
        seen.append((outputs, spacing))
        return Instances((outputs[1] > 0.5).astype(np.uint16) * 5)

    logits = torch.zeros(2, 4, 12, 10, dtype=torch.bfloat16)
    logits[1, 1:3, 2:6, 2:5] = 4.0
    item = {"image": as_metatensor(labels.astype(np.float32), SPACING, "a.tif"), "pred": logits}
    done = Objectsd("pred", probabilities, to_instances)(item)
    outputs, spacing = seen[0]
    assert spacing == SPACING
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs[1, 1, 2, 2], 1 / (1 + np.exp(-4)), rtol=1e-6)
    np.testing.assert_allclose(outputs.sum(0), 1, rtol=1e-6)
    assert done["pred"].dtype == torch.int32
    assert np.array_equal(done["pred"][0], np.where(labels == 300, 5, 0))
    assert spacing_of(done["pred"]) == SPACING
    assert item["pred"] is logits


def test_what_a_joint_network_should_say_gives_back_the_labels_that_it_learns(labels):
    _, mask, density = joint_target(labels, spacing=SPACING)
    item = {
        "image": as_metatensor(labels.astype(np.float32), SPACING),
        "pred": torch.from_numpy(np.stack([20 * mask - 10, density])),
    }
    to_instances = partial(labels_from_density, min_distance_um=2.0)
    found = np.asarray(Objectsd("pred", mask_and_density, to_instances)(item)["pred"][0])
    assert np.array_equal(found > 0, labels > 0)
    assert [len(np.unique(found[labels == label])) for label in (2, 300)] == [1, 1]
    assert found.max() == 2
