"""MONAI transforms of volumes: files, isotropic grid, image grid, files."""

import numpy as np
import pytest
import tifffile
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose

from qcanet_monai.errors import InputError
from qcanet_monai.io import read_labels, write_labels, write_volume
from qcanet_monai.nn.metatensor import spacing_of
from qcanet_monai.transforms.volumes import Isotropicd, LoadVolumed, Maskd, NativeGridd, Normalised, SaveMaskd

SPACING = (2.0, 0.5, 0.5)


@pytest.fixture
def item(tmp_path):
    image = np.random.default_rng(0).integers(0, 500, (6, 20, 24)).astype(np.uint16)
    mask = np.zeros(image.shape, np.uint16)
    mask[2:4, 5:15, 6:18] = 255
    write_volume(tmp_path / "image.tif", image, spacing=SPACING)
    write_labels(tmp_path / "label.tif", mask, spacing=SPACING)
    return {"image": str(tmp_path / "image.tif"), "label": str(tmp_path / "label.tif")}


def test_files_load_with_their_spacing_in_the_affine(item):
    loaded = LoadVolumed(["image", "label"])(item)
    assert loaded["image"].shape == loaded["label"].shape == (1, 6, 20, 24)
    assert loaded["image"].dtype == torch.float32
    assert loaded["label"].dtype == torch.uint8
    assert spacing_of(loaded["image"]) == pytest.approx(SPACING)


def test_both_come_onto_one_cubic_grid(item):
    done = Isotropicd(["image", "label"])(LoadVolumed(["image", "label"])(item))
    assert done["image"].shape == done["label"].shape == (1, 24, 20, 24)
    assert spacing_of(done["image"]) == pytest.approx((0.5, 0.5, 0.5))
    assert set(np.unique(done["label"])) == {0, 1}
    # the mask keeps its volume
    assert float(done["label"].sum()) * 0.5**3 == pytest.approx(2 * 10 * 12 * 2.0 * 0.5 * 0.5)


def test_instances_keep_their_labels_on_the_cubic_grid(tmp_path):
    labels = np.zeros((2, 3, 4), np.uint16)
    labels[0, 0, 0], labels[1, 1:, 2:] = 300, 7
    write_labels(tmp_path / "label.tif", labels, spacing=SPACING)
    loaded = LoadVolumed(["label"])({"label": str(tmp_path / "label.tif")})
    done = Isotropicd(["label"], instances=True)(loaded)["label"]
    assert done.dtype == torch.int32
    assert spacing_of(done) == pytest.approx((0.5, 0.5, 0.5))
    assert np.array_equal(done[0], np.repeat(labels, 4, axis=0))
    assert set(np.unique(Isotropicd(["label"])(loaded)["label"])) == {0, 1}


def test_instances_concern_labels_alone(item):
    keys = ["image", "label"]
    plain, instances = (
        Isotropicd(keys, isotropic_spacing_um=1.0, instances=i)(LoadVolumed(keys)(item))
        for i in (False, True)
    )
    assert torch.equal(plain["image"], instances["image"])
    assert instances["image"].shape == instances["label"].shape == (1, 12, 10, 12)
    assert set(np.unique(instances["label"])) == {0, 255}


def test_a_channel_is_taken_of_images_and_labels_have_none(tmp_path):
    channels = np.random.default_rng(0).integers(0, 500, (4, 3, 5, 6)).astype(np.uint16)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, channels, imagej=True, metadata={"axes": "ZCYX"})
    write_labels(tmp_path / "label.tif", channels[:, 0], spacing=SPACING)
    item = {"image": str(path), "label": str(tmp_path / "label.tif")}
    for number in range(3):
        loaded = LoadVolumed(["image", "label"], spacing=SPACING, channel=number)(item)
        assert np.array_equal(loaded["image"][0], channels[:, number])
        assert np.array_equal(loaded["label"][0], channels[:, 0])
    with pytest.raises(InputError, match="3 channels"):
        LoadVolumed(["image"], spacing=SPACING)(item)


def test_a_mask_survives_the_way_there_and_back_through_a_loader(item, tmp_path):
    keys = ["image", "label"]
    loader = DataLoader(Dataset([item], Compose([LoadVolumed(keys), Isotropicd(keys), Normalised("image")])))
    (one,) = decollate_batch(next(iter(loader)))
    assert 0 <= float(one["image"].min()) < float(one["image"].max()) <= 1
    one["pred"] = one["label"].float()
    back = NativeGridd("pred")(one)
    assert back["pred"].shape == (1, 6, 20, 24)
    assert spacing_of(back["pred"]) == pytest.approx(SPACING)
    SaveMaskd("pred", str(tmp_path / "out"), "nsn")(back)
    saved = read_labels(tmp_path / "out/image_nsn.tif")
    assert np.array_equal(saved.array, read_labels(item["label"]).array)
    assert saved.spacing == pytest.approx(SPACING)


def test_a_mask_is_the_last_channel_above_the_threshold_without_specks():
    probability = torch.zeros(2, 4, 4, 4)
    probability[1, 0, 0, :2], probability[1, 3, 3, 3], probability[0] = 0.6, 0.9, 1.0
    mask = Maskd("pred", threshold=0.5, min_size=2)({"pred": MetaTensor(probability)})["pred"]
    assert mask.shape == (1, 4, 4, 4)
    assert mask.sum() == 2
    assert mask[0, 0, 0, :2].all()
