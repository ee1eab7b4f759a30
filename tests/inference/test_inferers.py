"""Whole volumes, tiles and mirror images give what the network gives."""

import pytest
import torch
from monai.inferers import SimpleInferer

from qcanet_monai.inference.inferers import AutocastInferer, FlipInferer, VolumeInferer
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


def test_a_u_net_in_parts_gives_what_one_pass_gives(network):
    image = torch.rand(1, 1, 30, 32, 32)
    with torch.no_grad():
        whole = VolumeInferer(multiple=4)(image, network)
        parts = VolumeInferer(multiple=4, max_voxels=1000)(image, network)
    torch.testing.assert_close(parts, whole)


def test_tiles_of_another_network_agree_away_from_seams(network):
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        whole = VolumeInferer(multiple=4)(image, network)
        other = torch.nn.Sequential(network).eval()
        tiled = VolumeInferer(multiple=4, max_voxels=24**3, overlap=0.5)(image, other)
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


class Field(torch.nn.Module):
    """A function of a voxel's place: neither it nor its mirror image commutes with a flip."""

    def __init__(self):
        super().__init__()
        self.register_buffer("field", torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(1)))
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return self.field * x.cumsum(2).cumsum(3).cumsum(4)


@pytest.fixture
def small():
    return torch.rand(1, 1, 3, 4, 5, generator=torch.Generator().manual_seed(2))


def test_flips_give_the_mean_of_four_mirror_images(small):
    field = Field()
    by_hand = (
        field(small)
        + torch.flip(field(torch.flip(small, (3,))), (3,))
        + torch.flip(field(torch.flip(small, (4,))), (4,))
        + torch.flip(field(torch.flip(small, (3, 4))), (3, 4))
    ) / 4
    flipped = FlipInferer(SimpleInferer())(small, field)
    assert flipped.shape == (1, 2, 3, 4, 5)
    assert torch.allclose(flipped, by_hand)
    assert not torch.allclose(flipped, field(small))


def test_the_network_sees_mirror_images_along_y_and_x_and_never_along_z(small):
    field = Field()
    FlipInferer(SimpleInferer())(small, field)
    expected = [small, small.flip(3), small.flip(4), small.flip(3, 4)]
    assert len(field.seen) == 4
    for image in expected:
        assert sum(torch.equal(image, seen) for seen in field.seen) == 1
    for image in expected:
        assert not any(torch.equal(image.flip(2), seen) for seen in field.seen)


def test_without_flips_the_network_runs_once(small):
    field = Field()
    plain = FlipInferer(SimpleInferer(), flips=False)(small, field)
    assert len(field.seen) == 1
    assert torch.equal(plain, field(small))


def test_a_network_that_mirrors_with_its_image_is_unchanged(small):
    blur = torch.nn.Conv3d(1, 1, 3, padding=1, bias=False)
    torch.nn.init.constant_(blur.weight, 1 / 27)
    with torch.no_grad():
        assert torch.allclose(FlipInferer(SimpleInferer())(small, blur), blur(small), atol=1e-6)


def test_flips_make_any_network_mirror_with_its_image(network):
    image = torch.rand(1, 1, 8, 12, 16)
    inferer = FlipInferer(VolumeInferer(multiple=4))
    with torch.no_grad():
        logits = inferer(image, network)
        for axes in ((3,), (4,), (3, 4)):
            assert torch.allclose(inferer(image.flip(axes), network), logits.flip(axes), atol=1e-5)
        assert not torch.allclose(inferer(image.flip(2), network), logits.flip(2), atol=1e-3)
