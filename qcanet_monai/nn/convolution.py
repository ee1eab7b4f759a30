"""Convolutions for inference, in reduced precision and fused with their ReLU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# private oneDNN operator that fuses the ReLU and keeps the bias in fp32
_FUSED: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_BF16 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Round convolution weights (O, I, Z, Y, X) to `dtype` by error diffusion.

    Each weight absorbs the previous rounding error, so a kernel keeps its sum. Neighbouring voxels have
    similar features, so a changed sum would shift mask borders.
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
    """Trained 3-D convolution of stride 1 with an optional ReLU, for inference.

    Weights, inputs and outputs have the type `dtype`; without oneDNN fusion, the bias is rounded to it.
    """

    def __init__(self, convolution: nn.Conv3d, dtype: torch.dtype, *, relu: bool = False) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        self.weight = nn.Parameter(rounded(weight, dtype) if dtype != weight.dtype else weight)
        self.bias = convolution.bias
        self.padding, self.relu = [int(n) for n in convolution.padding], relu

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, I, Z, Y, X) to features (B, O, Z, Y, X)."""
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
    """Convolution of an fp32 image in a narrower dtype with little rounding error.

    Image and weights are each split into a rounded part and a remainder. The result sums three of the four
    products and omits that of the remainders. The cost is small for few channels, and rounding matters most
    in this first layer.
    """

    def __init__(self, convolution: nn.Conv3d, dtype: torch.dtype, *, relu: bool = False) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        high = weight.to(dtype)
        self.dtype, self.convolution = dtype, Convolution(convolution, dtype, relu=relu)
        self.convolution.weight = nn.Parameter(torch.cat([high, high, (weight - high).to(dtype)], 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map an fp32 image (B, C, Z, Y, X) to features (B, O, Z, Y, X)."""
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
    """Convert a `fuse_batch_norm` block to `dtype`; set `image` if its input is fp32."""
    layers = [layer for layer in block if not isinstance(layer, nn.Identity)]
    found: list[nn.Module] = []
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.Conv3d):
            kind = Image if image and not found and dtype != torch.float32 else Convolution
            found.append(kind(layer, dtype, relu=isinstance(after, nn.ReLU)))
        elif not found or not isinstance(layer, nn.ReLU):
            found.append(layer)
    return nn.Sequential(*found)
