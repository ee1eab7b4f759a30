"""Equivalent networks with fewer operations, for inference."""

from __future__ import annotations

from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from qcanet_monai.nn.convolution import Convolution, block_for_inference
from qcanet_monai.nn.unet import UNet3D
from qcanet_monai.nn.upsampled import kernels_below, window


def fuse_batch_norm(network: nn.Module) -> nn.Module:
    """Fuse batch norms into their convolutions, in place; set evaluation mode.

    Only a convolution and a batch norm that are adjacent in an ``nn.Sequential`` are fused.
    """
    network.eval()
    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for (_, first), (name, second) in pairwise(list(block.named_children())):
            if isinstance(first, nn.Conv3d) and isinstance(second, nn.BatchNorm3d):
                fused = fuse_conv_bn_eval(first, second)
                first.weight, first.bias = fused.weight, fused.bias
                block.register_module(name, nn.Identity())
    return network


def with_one_logit(network: nn.Module) -> nn.Module:
    """Replace the two logits of a two-class `UNet3D` by their difference, in place.

    The sigmoid of the difference equals the softmax probability of class 1. The head then computes half as
    much. Other networks stay unchanged.
    """
    if isinstance(network, UNet3D) and network.head.out_channels == 2:
        weight, bias = network.head.weight, network.head.bias
        assert bias is not None
        network.head = nn.Conv3d(network.head.in_channels, 1, 1)
        network.head.weight = nn.Parameter((weight[1:] - weight[:1]).detach())
        network.head.bias = nn.Parameter((bias[1:] - bias[:1]).detach())
    return network


class FusedUNet3D(nn.Module):
    """Trained `UNet3D` with transposed convolutions fused into its decoders.

    See `nn.upsampled`. The largest tensor of the network is never allocated.

    Parameters
    ----------
    network
        Network after `fuse_batch_norm`, with padding ``same``.
    dtype
        Type of weights and features; images and stored biases are fp32.
    """

    def __init__(self, network: UNet3D, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.depth, self.kernel_size, self.pool = network.depth, network.kernel_size, _Pool()
        self.encoder = nn.ModuleList(
            block_for_inference(_block(block), dtype, image=level == 0)
            for level, block in enumerate(network.encoder)
        )
        self.decoder = nn.ModuleList(
            _Joined(up, _block(block), dtype) for up, block in zip(network.up, network.decoder, strict=True)
        )
        self.head = Convolution(network.head, dtype)
        self.train(network.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, 1, Z, Y, X) to logits (B, C, Z, Y, X), as `UNet3D` does."""
        skips: list[Tensor] = []
        for level, encode in enumerate(self.encoder):
            x = encode(x)
            if level < self.depth:
                skips.append(x)
                x = self.pool(x)
        for position in range(self.depth):
            x = self.join(position, x, skips.pop())
        head: Tensor = self.head(x)
        return head

    def join(self, position: int, below: Tensor, skip: Tensor) -> Tensor:
        """Run decoder `position` (0 lowest) on (B, C, Z, Y, X) and a skip twice as large."""
        return self.decoder[position](below, skip)


def _block(module: nn.Module) -> nn.Sequential:
    assert isinstance(module, nn.Sequential)
    return module


class _Pool(nn.Module):
    """Max-pooling by 2 of even sizes; twice as fast as torch's, which keeps indices."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        x = torch.maximum(x[:, :, :, ::2], x[:, :, :, 1::2])
        return torch.maximum(x[..., ::2], x[..., 1::2])


class _Joined(nn.Module):
    """Decoder level with `up` fused into the first convolution of `block`.

    One convolution computes two neighbours along x, in memory order.
    """

    def __init__(self, up: nn.Module, block: nn.Sequential, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(up, nn.ConvTranspose3d)
        first = block[0]
        assert isinstance(first, nn.Conv3d)
        assert up.bias is not None
        from_below, from_skip = first.weight.split([up.out_channels, first.in_channels - up.out_channels], 1)
        taps, self.margin, self.later = window(first.kernel_size[0])
        kernels = kernels_below(up.double(), from_below.double()).to(first.weight.dtype)
        reach = first.kernel_size[0] // 2
        order = (1, 0) if self.later else (0, 1)  # a window also serves the second of the previous pair
        self.below = nn.ModuleList()
        for z, y in product((0, 1), repeat=2):
            pair = nn.Conv3d(kernels.shape[4], 2 * first.out_channels, taps, bias=False)
            pair.weight = nn.Parameter(torch.cat([kernels[z, y, x] for x in order]))
            self.below.append(Convolution(pair, dtype))
        skip = nn.Conv3d(from_skip.shape[1], first.out_channels, 2 * reach + 1, padding=reach)
        skip.weight, skip.bias = nn.Parameter(from_skip.contiguous()), first.bias
        self.skip = Convolution(skip, dtype)
        self.rest = block_for_inference(list(block)[1:], dtype)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        count, channels, depth, height, width = below.shape
        size = (count, channels + 1, *(n + 2 * self.margin for n in (depth, height, width)))
        layout = torch.channels_last_3d
        padded = torch.empty(size, dtype=below.dtype, device=below.device, memory_format=layout).zero_()
        z, y, x = (slice(self.margin, self.margin + n) for n in (depth, height, width))
        padded[:, :channels, z, y, x] = below
        padded[:, channels:, z, y, x] = 1
        joined = self.skip(skip)
        for (dz, dy), two in zip(product((0, 1), repeat=2), self.below, strict=True):
            pairs = two(padded)[:, :, dz * self.later :, dy * self.later :][:, :, :depth, :height]
            rows = pairs.permute(0, 2, 3, 4, 1).unflatten(4, (2, -1)).flatten(3, 4).permute(0, 4, 1, 2, 3)
            joined[:, :, dz::2, dy::2] += rows[..., self.later :][..., : 2 * width]
        return self.rest(joined)


def for_inference(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Apply every supported inference optimisation, in place; do not reuse `network`.

    A `UNet3D` with padding ``same`` becomes a `FusedUNet3D` in `dtype`. Other networks run in their inferer's
    precision.
    """
    network = with_one_logit(fuse_batch_norm(network))
    if isinstance(network, UNet3D) and network.margin == 0:
        return FusedUNet3D(network, dtype)
    return network
