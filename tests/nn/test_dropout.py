"""Dropout at test time drops features and changes nothing else."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from qcanet_monai.nn.anisotropic import AnisotropicUNet
from qcanet_monai.nn.cellseg3d import CellSegNet3D
from qcanet_monai.nn.dropout import dropouts, redraw, with_dropout
from qcanet_monai.nn.joint import JointNet, SeparateNets
from qcanet_monai.nn.unet import UNet3D

SMALL = {
    UNet3D: {"depth": 1, "channels": 2},
    JointNet: {"depth": 1, "channels": 2, "detector_channels": 2},
    SeparateNets: {"depth": 1, "channels": 2},
    AnisotropicUNet: {"levels": 2, "flat_poolings": 1, "channels": 2, "attention": True},
}


def small(dropout=0.5):
    torch.manual_seed(0)
    return UNet3D(depth=1, channels=2, dropout=dropout).eval()


@pytest.fixture
def image():
    return torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", SMALL)
def test_a_network_dropouts_if_it_was_made_with_it(kind):
    assert dropouts(kind(**SMALL[kind], dropout=0.1))
    assert not dropouts(kind(**SMALL[kind]))


def test_a_network_that_knows_no_dropout_has_none():
    with torch.device("meta"):
        assert not dropouts(CellSegNet3D())
    assert dropouts(nn.Sequential(nn.Sequential(nn.Dropout(0.1))))


@torch.inference_mode()
def test_the_same_seed_drops_the_same_and_another_drops_other_channels(image):
    network = small()
    first, again, other = (with_dropout(network, seed) for seed in (3, 3, 4))
    one = first(image)
    assert torch.equal(one, again(image))
    assert not torch.equal(one, other(image))
    assert torch.equal(one, first(image))  # another part of the same pass
    redraw(first)
    assert not torch.equal(one, first(image))  # the generator has moved on


@torch.inference_mode()
def test_samples_of_a_batch_differ(image):
    found = with_dropout(small(), 0)(image.expand(6, -1, -1, -1, -1))
    assert len({tuple(one.flatten().tolist()) for one in found}) > 3


@torch.inference_mode()
def test_the_network_itself_is_left_as_it_is(image):
    network = small().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    names = [name for name, _ in network.named_modules()]
    sampled = with_dropout(network, 0)
    sampled(image)
    norms = [module for module in sampled.modules() if isinstance(module, nn.BatchNorm3d)]
    assert norms
    assert not any(module.training for module in [sampled, *norms])  # batch norms use their learnt statistics
    assert network.training
    assert [name for name, _ in network.named_modules()] == names
    assert dropouts(network)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not {id(p) for p in network.parameters()} & {id(p) for p in sampled.parameters()}


@torch.inference_mode()
def test_without_dropout_the_copy_gives_what_the_network_gives(image):
    network = small(dropout=0.0)
    assert torch.equal(with_dropout(network, 0)(image), network(image))


@torch.inference_mode()
def test_whole_channels_are_dropped_or_single_voxels_and_the_rest_makes_up_for_it():
    ones = torch.ones(2, 40, 3, 4, 5)
    channels = with_dropout(nn.Sequential(nn.Dropout3d(0.2)), 0)(ones)
    assert set(channels.unique().tolist()) == {0, 1.25}
    assert all(len(channel.unique()) == 1 for channel in channels.flatten(0, 1))
    voxels = with_dropout(nn.Sequential(nn.Dropout(0.2)), 0)(ones)
    assert set(voxels.unique().tolist()) == {0, 1.25}
    assert all(len(channel.unique()) == 2 for channel in voxels.flatten(0, 1))
    # 4,800 voxels, each dropped with probability 0.2: within 5 standard deviations
    assert abs((voxels == 0).sum() - 960) < 5 * (4800 * 0.2 * 0.8) ** 0.5


@torch.inference_mode()
def test_a_linear_networks_mean_over_many_passes_is_its_plain_output():
    share, passes = 0.3, 4000
    torch.manual_seed(0)
    first, last = nn.Conv3d(1, 8, 1, bias=False), nn.Conv3d(8, 1, 1)
    network = nn.Sequential(first, nn.Dropout3d(share), last).eval()
    image = torch.tensor(2.0).expand(1, 1, 1, 1, 1)
    found = with_dropout(network, 0)(image.expand(passes, 1, 1, 1, 1)).double()
    features = (first(image) * last.weight.view(1, 8, 1, 1, 1)).double()
    variance = float(features.square().sum()) * share / (1 - share)
    plain = float(network(image))
    assert abs(found.mean() - plain) < 4 * (variance / passes) ** 0.5
    assert abs(found.var() / variance - 1) < 0.15
    assert found.std() > 0.1 * abs(plain)


@torch.inference_mode()
def test_what_is_dropped_does_not_depend_on_the_global_random_numbers_nor_moves_them(image):
    network = small()
    torch.manual_seed(1)
    one = with_dropout(network, 0)(image)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(with_dropout(network, 0)(image), one)
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_side_by_side_drop_what_each_drops_alone(image):
    network, batch = small(), image.expand(4, -1, -1, -1, -1)

    @torch.inference_mode()
    def passes(seed):
        sampled = with_dropout(network, seed)
        return torch.stack([sampled(batch) for _ in range(8)])

    alone = [passes(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(passes, range(4)))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


@torch.inference_mode()
def test_half_precision_stays_what_it_is():
    sampled = with_dropout(nn.Sequential(nn.Dropout3d(0.5)), 0)
    assert sampled(torch.ones(1, 4, 2, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
