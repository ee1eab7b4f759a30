"""Volumes keep their voxel size and file name."""

import numpy as np
import torch
from numpy.testing import assert_array_equal

from qcanet_monai.nn.metatensor import as_metatensor, spacing_of, with_values


def test_a_volume_becomes_a_channel_and_its_spacing_the_affine():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image = as_metatensor(array[:, ::-1], (1.75, 0.8, 0.7), "a.tif")
    assert_array_equal(np.asarray(image), array[None, :, ::-1])
    assert spacing_of(image) == (1.75, 0.8, 0.7)
    assert image.meta["filename_or_obj"] == "a.tif"


def test_other_values_on_the_same_grid_keep_spacing_and_metadata():
    image = as_metatensor(np.zeros((2, 3, 4), np.float32), (1.75, 0.8, 0.7), "a.tif")
    image.meta["native_shape"] = torch.tensor([1, 2, 3])
    other = with_values(image, torch.ones(1, 2, 3, 4))
    assert_array_equal(np.asarray(other), 1)
    assert spacing_of(other) == (1.75, 0.8, 0.7)
    assert other.meta["filename_or_obj"] == "a.tif"
    assert other.meta["native_shape"].tolist() == [1, 2, 3]
    assert not np.asarray(image).any()
