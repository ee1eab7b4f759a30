"""Convolutions of a network that no longer learns: in fewer bits, and with their ReLU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# oneDNN's own, which applies the ReLU while a result is still at hand and keeps a bias in fp32; not public
_FUSED: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_BF16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A convolution's weights (O, I, Z, Y, X) in another type, with the sum of each kernel as it was.

    Each weight takes on what rounding took off the one before. Neighbouring voxels have much the same
    features, so it is a kernel's sum that shifts the borders of a mask.
    """
    exact = weight.detach().flatten(2).double()
    found = torch.empty_like(exact, dtype=dtype)
    left = torch.zeros_like(exact[..., 0])
    for tap in range(exact.shape[-1]):
        wanted = exact[..., tap] + left
        found[..., tap] = wanted
        left = wanted - found[..., tap]
    return found.view(weight.shape)


class Convolution(nn.Module):
    """A 3-D convolution of stride 1, and the ReLU that follows it, in a type of its own.

    Parameters
    ----------
    convolution
        As it was trained.
    dtype
        Of the weights and of what goes in and comes out; the bias stays as it is.
    relu
        Whether a ReLU follows.
    """

    def __init__(self, convolution: nn.Conv3d, dtype: torch.dtype, *, relu: bool = False) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        self.weight = nn.Parameter(rounded(weight, dtype) if dtype != weight.dtype else weight)
        self.bias = convolution.bias
        self.padding, self.relu = [int(n) for n in convolution.padding], relu

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, O, Z, Y, X) of features (B, I, Z, Y, X)."""
        ones = [1, 1, 1]
        if _fuses(x):
            after = "relu" if self.relu else "none"
            fused: Tensor = _FUSED(x, self.weight, self.bias, self.padding, ones, ones, 1, after, [], "")
            return fused
        bias = None if self.bias is None else self.bias.to(x.dtype)
        out = torch.conv3d(x, self.weight, bias, ones, self.padding)
        return out.relu_() if self.relu else out


def _fuses(x: Tensor) -> bool:
    known = x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _BF16())
    return _FUSED is not None and x.device.type == "cpu" and known


class Image(nn.Module):
    """An image in fp32 (B, C, Z, Y, X), and a convolution that sees it, in narrower types.

    A product of two numbers is the sum of three of their halves: of a narrow value and its rest with a narrow
    weight, and of the value with the weight's rest. With few channels that costs next to nothing, and here it
    is where rounding matters most.
    """

    def __init__(self, convolution: nn.Conv3d, dtype: torch.dtype, *, relu: bool = False) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        high = weight.to(dtype)
        self.dtype, self.convolution = dtype, Convolution(convolution, dtype, relu=relu)
        self.convolution.weight = nn.Parameter(torch.cat([high, high, (weight - high).to(dtype)], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, O, Z, Y, X) of the image."""
        count, channels, *size = x.shape
        shape = (count, 3 * channels, *size)
        layout = torch.channels_last_3d
        thirds = torch.empty(shape, dtype=self.dtype, device=x.device, memory_format=layout)
        high, rest, again = thirds.split(channels, 1)
        high.copy_(x)
        torch.sub(x, high, out=rest)
        again.copy_(high)
        features: Tensor = self.convolution(thirds)
        return features


def block_for_inference(
    block: Iterable[nn.Module], dtype: torch.dtype, *, image: bool = False
) -> nn.Sequential:
    """A `fuse_batch_norm` block of convolutions and ReLUs; with `image` its input is one in fp32."""
    layers = [layer for layer in block if not isinstance(layer, nn.Identity)]
    found: list[nn.Module] = []
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.Conv3d):
            kind = Image if image and not found and dtype != torch.float32 else Convolution
            found.append(kind(layer, dtype, relu=isinstance(after, nn.ReLU)))
        elif not found or not isinstance(layer, nn.ReLU):
            found.append(layer)
    return nn.Sequential(*found)
