"""Whole volumes and tiles give what the network gives."""

import pytest
import torch

from qcanet_monai.inference.inferers import AutocastInferer, VolumeInferer
from qcanet_monai.nn.unet import UNet3D


@pytest.fixture(scope="module")
def network() -> UNet3D:
    torch.manual_seed(0)
    return UNet3D(depth=2, channels=2).eval()


def test_a_volume_of_any_size_keeps_it(network):
    image = torch.rand(1, 1, 13, 18, 7)
    with torch.no_grad():
        assert VolumeInferer(multiple=4)(image, network).shape == (1, 2, 13, 18, 7)


def test_a_volume_that_needs_no_padding_goes_through_as_it_is(network):
    image = torch.rand(1, 1, 8, 12, 16)
    with torch.no_grad():
        assert torch.equal(VolumeInferer(multiple=4)(image, network), network(image))


def test_tiles_agree_with_the_whole_volume_away_from_seams(network):
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        whole = VolumeInferer(multiple=4)(image, network)
        tiled = VolumeInferer(multiple=4, max_voxels=1000, tile=24, overlap=0.5)(image, network)
    assert tiled.shape == whole.shape
    assert (whole.argmax(1) == tiled.argmax(1)).float().mean() > 0.9


def test_autocast_hands_back_float32_close_to_float32(network):
    image = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        half = AutocastInferer(precision="bf16")(image, network)
        full = AutocastInferer(precision="fp32")(image, network)
    assert half.dtype == full.dtype == torch.float32
    assert torch.equal(full, network(image))
    assert (half - full).norm() / full.norm() < 0.05
