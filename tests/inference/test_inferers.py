"""Whole volumes, tiles and mirror images give the network's own outputs."""

import pytest
import torch
from monai.inferers import SimpleInferer

from qcanet_monai.inference.inferers import AutocastInferer, FlipInferer, VolumeInferer
from qcanet_monai.nn.anisotropic import AnisotropicUNet
from qcanet_monai.nn.joint import JointNet, SeparateNets
from qcanet_monai.nn.unet import UNet3D, centre_cropped


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


def unpadded(kind):
    """Make a network of margin 20 with a non-zero last layer."""
    torch.manual_seed(0)
    network = kind(depth=2, channels=2, padding="valid").eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def whole_and_tiled(network, seen):
    """Compute a volume's outputs in one pass and in tiles of 8 x 8 x 8 voxels."""
    image = torch.rand(1, 1, 9, 18, 14, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        beyond = {"margin": 20, "reach": getattr(network, "reach", 0)}
        whole = VolumeInferer(multiple=4, **beyond)(image, network)
        most = (8 + 2 * 20 + 2 * -(-beyond["reach"] // 4) * 4) ** 3
        tiled = VolumeInferer(multiple=4, max_voxels=most, **beyond)(
            image, lambda part: seen.append(tuple(part.shape[2:])) or network(part)
        )
    return whole, tiled


@pytest.mark.parametrize("kind", [UNet3D, SeparateNets])
def test_without_padding_the_output_has_the_images_size_and_tiles_show_no_seam(kind):
    seen = []
    whole, tiled = whole_and_tiled(unpadded(kind), seen)
    # 12 x 20 x 16 voxels, each tile with its margin
    assert sorted(seen) == sorted((z, y, x) for z in (48, 44) for y in (48, 48, 44) for x in (48, 48))
    assert whole.shape == (1, 2, 9, 18, 14)
    assert whole[0, 1].std() > 0
    torch.testing.assert_close(tiled, whole)


def test_the_mask_of_a_joint_network_shows_no_seam():
    whole, tiled = whole_and_tiled(unpadded(JointNet), [])
    torch.testing.assert_close(tiled[:, 0], whole[:, 0])


def test_the_density_of_a_joint_network_shows_no_seam():
    whole, tiled = whole_and_tiled(unpadded(JointNet), [])
    torch.testing.assert_close(tiled[:, 1], whole[:, 1])


@torch.inference_mode()
def test_inside_the_margin_no_voxel_sees_the_mirror():
    network = unpadded(UNet3D)
    image = torch.rand(2, 1, 44, 48, 44, generator=torch.Generator().manual_seed(2))
    found = VolumeInferer(multiple=4, margin=20, max_voxels=60**3)(image, network)
    direct = network(image)
    assert direct.shape == (2, 2, 4, 8, 4)
    torch.testing.assert_close(centre_cropped(found, direct), direct)


class Shifted(torch.nn.Module):
    """Return the voxel two places before each along x; unpadded, with margin 2."""

    def forward(self, x):
        return x[..., 2:-2, 2:-2, :-4]


def test_beyond_the_border_lies_the_images_mirror_or_where_it_is_too_short_its_last_voxel():
    image = torch.arange(4.0).expand(1, 1, 4, 4, 4)
    assert VolumeInferer(multiple=1, margin=2)(image, Shifted())[0, 0, 0, 0].tolist() == [2, 1, 0, 1]
    flat = torch.arange(4.0).expand(1, 1, 2, 4, 4)
    assert VolumeInferer(multiple=1, margin=2)(flat, Shifted())[0, 0, 0, 0].tolist() == [0, 0, 0, 1]


class Sized(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return x.clone()  # MONAI weights tiles in place


def test_each_axis_is_padded_to_a_multiple_of_its_own():
    image, network = torch.rand(1, 1, 5, 9, 13), Sized()
    assert torch.equal(VolumeInferer(multiple=(1, 4, 8))(image, network), image)
    assert torch.equal(VolumeInferer(multiple=[2, 2, 2])(image, network), image)
    assert torch.equal(VolumeInferer(multiple=2)(image, network), image)
    assert network.seen == [(1, 1, 5, 12, 16), (1, 1, 6, 10, 14), (1, 1, 6, 10, 14)]


def test_tiles_are_multiples_of_each_axis_and_no_larger_than_the_volume():
    image, network = torch.rand(1, 1, 3, 20, 30), Sized()
    found = VolumeInferer(multiple=(1, 4, 16), max_voxels=1100)(image, network)
    torch.testing.assert_close(found, image)
    assert {shape[2:] for shape in network.seen} == {(3, 8, 16)}


@torch.inference_mode()
def test_an_anisotropic_network_sees_volumes_of_any_size():
    torch.manual_seed(0)
    network = AnisotropicUNet(channels=2, levels=3, flat_poolings=1).eval()
    assert network.multiple == (2, 4, 4)
    image = torch.rand(1, 1, 3, 7, 8)
    found = VolumeInferer(multiple=network.multiple)(image, network)
    assert found.shape == image.shape
    padded = torch.nn.functional.pad(image, (0, 0, 0, 1, 0, 1), mode="reflect")
    torch.testing.assert_close(found, network(padded)[..., :3, :7, :])


def test_all_images_of_a_batch_count_against_the_most_voxels():
    image, network = torch.rand(3, 1, 4, 4, 4), Sized()
    assert torch.equal(VolumeInferer(multiple=2, max_voxels=3 * 4**3)(image, network), image)
    assert network.seen == [(3, 1, 4, 4, 4)]
    torch.testing.assert_close(VolumeInferer(multiple=2, max_voxels=3 * 4**3 - 1)(image, network), image)
    assert len(network.seen) > 2
    assert {shape[0] for shape in network.seen[1:]} == {1}


def test_autocast_hands_back_float32_close_to_float32(network):
    image = torch.rand(1, 1, 8, 8, 8)
    with torch.no_grad():
        half = AutocastInferer(precision="bf16")(image, network)
        full = AutocastInferer(precision="fp32")(image, network)
    assert half.dtype == full.dtype == torch.float32
    assert torch.equal(full, network(image))
    assert (half - full).norm() / full.norm() < 0.05


class Field(torch.nn.Module):
    """Function of a voxel's position; does not commute with a flip."""

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
