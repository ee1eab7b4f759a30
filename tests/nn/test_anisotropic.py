"""Anisotropic U-Net: parameter count, sizes, places of attention and dropout."""

import pytest
import torch
from monai.networks.nets.attentionunet import AttentionBlock
from torch import nn
from torch.testing import assert_close

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.anisotropic import AnisotropicUNet
from qcanet_monai.nn.unet import count_parameters


def on_meta(**options):
    with torch.device("meta"):
        return AnisotropicUNet(**options).eval()


def small(**options):
    torch.manual_seed(0)
    return AnisotropicUNet(**{"channels": 2, "levels": 3, "flat_poolings": 1, **options}).eval()


def test_the_count_of_parameters_is_the_thesiss_with_batch_norms_or_without():
    assert count_parameters(on_meta(norm=False)) == 1_401_017
    norms = 2 * 2 * (8 + 16 + 32 + 64 + 128 + 64 + 32 + 16 + 8)
    assert count_parameters(on_meta()) == 1_401_017 + norms
    for options in ({}, {"norm": False}, {"attention": True}):
        assert count_parameters(on_meta(**options)) == pytest.approx(1.4e6, rel=0.02)


def test_the_thesiss_volume_goes_through():
    network = on_meta(attention=True)
    assert network(torch.empty(1, 1, 32, 352, 352, device="meta")).shape == (1, 1, 32, 352, 352)


@pytest.mark.parametrize(
    ("levels", "flat_poolings", "multiple"),
    [(5, 3, (2, 16, 16)), (5, 0, (16, 16, 16)), (5, 4, (1, 16, 16)), (3, 1, (2, 4, 4)), (2, 1, (1, 2, 2))],
)
def test_edge_lengths_are_multiples_of_what_each_axis_is_pooled_by(levels, flat_poolings, multiple):
    network = on_meta(channels=1, levels=levels, flat_poolings=flat_poolings, in_channels=2, out_channels=3)
    assert network.multiple == multiple
    size = [multiple[0], 3 * multiple[1], 2 * multiple[2]]
    assert network(torch.empty(2, 2, *size, device="meta")).shape == (2, 3, *size)
    for axis in range(3):
        if multiple[axis] > 1:
            other = [n + (n_axis == axis) for n_axis, n in enumerate(size)]
            with pytest.raises(ModelError, match=rf"multiples of \({multiple[0]}, {multiple[1]}"):
                network(torch.empty(1, 2, *other, device="meta"))


@torch.inference_mode()
def test_with_flat_poolings_and_a_flat_kernel_slices_know_nothing_of_each_other():
    network = small(flat_poolings=2, kernel_size=1)
    image = torch.randn(1, 1, 3, 8, 8)
    slices = torch.cat([network(image[:, :, z : z + 1]) for z in range(3)], 2)
    assert_close(network(image), slices)


@pytest.mark.parametrize("options", [{}, {"norm": False}, {"attention": True}, {"dropout": 0.2}])
def test_every_parameter_takes_part_in_the_output(options):
    network = small(channels=4, **options).train()
    network(torch.randn(2, 1, 4, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    kernels = [p for p in network.parameters() if p.dim() == 5]
    assert all(p.grad.any() for p in kernels)


def test_attention_weighs_the_lowest_skip_only():
    network = small(attention=True)
    blocks = [name for name, module in network.named_modules() if isinstance(module, AttentionBlock)]
    assert blocks == ["attention"]
    skips = []
    network.attention.register_forward_pre_hook(lambda _, __, given: skips.append(given), with_kwargs=True)
    with torch.no_grad():
        network(torch.randn(1, 1, 2, 8, 8))
    assert [tuple(x.shape) for x in skips[0].values()] == [(1, 4, 2, 4, 4)] * 2
    assert small().state_dict().keys() == {k for k in network.state_dict() if not k.startswith("attention")}


@torch.no_grad()
def test_where_attention_lets_all_through_it_changes_nothing():
    network, plain = small(attention=True), small()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("attention")})
    image = torch.randn(1, 1, 2, 8, 8)
    assert not torch.allclose(network(image), plain(image))
    network.attention.psi[1].bias.fill_(100)  # saturates the sigmoid
    assert_close(network(image), plain(image))


def test_dropout_stands_before_every_pooling_and_transposed_convolution():
    network = AnisotropicUNet(channels=1, dropout=0.15)
    order = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout | nn.MaxPool3d | nn.ConvTranspose3d):
            kind = "drop" if isinstance(module, nn.Dropout) else "resize"
            module.register_forward_hook(lambda *_, kind=kind: order.append(kind))
            assert kind == "resize" or module.p == 0.15, name
    network(torch.randn(2, 1, 2, 16, 16))
    assert order == ["drop", "resize"] * 8
    assert not any(isinstance(module, nn.Dropout) for module in small().modules())


def test_without_norms_there_is_none():
    assert not any(isinstance(module, nn.BatchNorm3d) for module in small(norm=False).modules())
    norms = [module for module in small().modules() if isinstance(module, nn.BatchNorm3d)]
    assert len(norms) == 2 * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1}, "at least 2 levels"),
        ({"levels": 2.0}, "expected levels to be"),
        ({"flat_poolings": 5}, "flat_poolings of 0 to 4"),
        ({"flat_poolings": -1}, "flat_poolings of 0 to 4"),
        ({"kernel_size": 2}, "odd kernel_size"),
        ({"dropout": 1}, "dropout of at least 0 and below 1"),
        ({"channels": 0}, "expected channels to be"),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        AnisotropicUNet(**options)
