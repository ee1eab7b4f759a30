"""3DCellSegNet and VoxResNet: parameter counts, any size, every layer in use."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.cellseg3d import CellSegNet3D
from qcanet_monai.nn.residual import Residual
from qcanet_monai.nn.unet import count_parameters
from qcanet_monai.nn.voxresnet import VoxResNet

NETWORKS = (CellSegNet3D, VoxResNet)


def on_meta(kind, **options):
    with torch.device("meta"):
        return kind(**options).eval()


@pytest.mark.parametrize(("kind", "count"), [(CellSegNet3D, 1_281_411), (VoxResNet, 6_259_244)])
def test_networks_have_exactly_the_authors_number_of_parameters(kind, count):
    network = on_meta(kind)
    assert count_parameters(network) == count
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert all(convolution.bias is not None for convolution in convolutions)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("size", [(8, 16, 24), (1, 1, 1), (7, 9, 30), (11, 2, 21), (56, 64, 61)])
def test_logits_lie_on_the_grid_of_an_image_of_any_size(kind, size):
    network = on_meta(kind, in_channels=2, out_channels=4)
    assert network(torch.empty(2, 2, *size, device="meta")).shape == (2, 4, *size)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_parameter_takes_part_in_the_output(kind):
    torch.manual_seed(0)
    network = kind().train()
    logits = network(torch.randn(1, 1, 9, 16, 12))
    (logits * torch.randn_like(logits)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    kernels = [p for p in network.parameters() if p.dim() == 5]
    assert all(p.grad.any() for p in kernels)


@torch.inference_mode()
def test_a_residual_block_adds_its_convolution_to_what_it_is_given():
    block = Residual(3).eval()
    x = torch.randn(1, 3, 4, 5, 6)
    kept = x.clone()
    normalised = x / (1 + 1e-5) ** 0.5
    assert_close(block(x), x + block.block[2](normalised.relu()))
    assert torch.equal(x, kept)
    block.block[2].weight.zero_()
    block.block[2].bias.zero_()
    assert torch.equal(block(x), x)


@torch.inference_mode()
def test_cellsegnets_skips_are_added_after_the_surplus_is_cropped():
    torch.manual_seed(0)
    network = CellSegNet3D().eval()
    image = torch.randn(1, 1, 5, 6, 7)
    a = network.stem(image)
    b = network.down[0](a)
    c = network.down[1](b)
    d = network.down[2](c)
    assert [tuple(level.shape[1:]) for level in (a, b, c, d)] == [
        *((32, 5, 6, 7), (64, 3, 3, 4), (64, 2, 2, 2), (64, 1, 1, 1))
    ]
    x = c + network.up[0](d)
    x = b + network.up[1](x)[:, :, :3, :3, :4]
    x = a + network.up[2](x)[:, :, :5, :6, :7]
    assert_close(network(image), network.head(x))


@torch.inference_mode()
def test_the_logits_of_voxresnets_levels_add_up():
    torch.manual_seed(0)
    network = VoxResNet().eval()
    image = torch.randn(1, 1, 8, 9, 13)
    x, total = image, torch.zeros(1, 3, 8, 9, 13)
    # surplus of 7 and 3 of 16 voxels begins at 3 and 1; of 3 of 12 and 16 at 1
    starts = [(0, 0), (0, 0), (1, 1), (3, 1)]
    for level, branch, (y, z) in zip(network.levels, network.branches, starts, strict=True):
        x = level(x)
        total += branch(x)[:, :, :8, y : y + 9, z : z + 13]
    assert_close(network(image), total)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_count_below_one_is_refused_by_name(kind):
    with pytest.raises(ModelError, match="expected out_channels to be"):
        kind(out_channels=0)
