"""Tests of the convolution that needs no upsampled tensor."""

import pytest
import torch
from torch import nn

from qcanet_monai.nn.unet import UNet3D
from qcanet_monai.nn.upsampled import upsampled_convolution


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_result_and_gradients_are_those_of_the_two_layers(kernel_size: int) -> None:
    torch.manual_seed(0)
    up = nn.ConvTranspose3d(3, 4, 2, stride=2).double()
    convolution = nn.Conv3d(4 + 2, 5, kernel_size, padding=kernel_size // 2).double()
    below = torch.randn(2, 3, 3, 4, 5, dtype=torch.double, requires_grad=True)
    skip = torch.randn(2, 2, 6, 8, 10, dtype=torch.double, requires_grad=True)
    leaves = [below, skip, *up.parameters(), *convolution.parameters()]
    plain = convolution(torch.cat([up(below), skip], 1))
    weights = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * weights).sum(), leaves)
    fast = upsampled_convolution(up, convolution, below, skip)
    torch.testing.assert_close(fast, plain)
    found = torch.autograd.grad((fast * weights).sum(), leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_network_trains_to_the_same_logits_as_it_predicts() -> None:
    torch.manual_seed(0)
    network = UNet3D(depth=2, channels=2)
    network.apply(lambda m: setattr(m, "momentum", 0.0) if isinstance(m, nn.BatchNorm3d) else None)
    image = torch.randn(1, 1, 8, 8, 8)
    trained = network(image)
    with torch.no_grad():  # batch statistics too, but by the layers one after the other
        torch.testing.assert_close(trained, network(image), rtol=1e-4, atol=1e-5)
