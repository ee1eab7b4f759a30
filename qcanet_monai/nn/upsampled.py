"""Convolution of an upsampled tensor without computing the upsampled tensor.

A transposed convolution of stride 2 and a convolution of its output form one linear map. From the voxels
below, each fine voxel needs 8 products instead of 27 + 1 for kernels of 3 voxels, and 27 instead of 125 + 1
for kernels of 5.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CORNERS = tuple(product((0, 1), repeat=3))
"""Places (z, y, x) of the 2 x 2 x 2 fine voxels that one voxel below becomes."""


class Window(NamedTuple):
    """Voxels below that a kernel covers along an axis.

    `taps` is their number, and `margin` how many lie before that of the first of two fine voxels. The window
    of the second fine voxel lies `later` (0 or 1) voxels after that of the first.
    """

    taps: int
    margin: int
    later: int


def window(kernel_size: int) -> Window:
    """Return the window of a kernel of odd size."""
    reach = kernel_size // 2
    margin, later = (reach + 1) // 2, reach % 2
    return Window((reach + 1) // 2 + margin - later + 1, margin, later)


def kernels_below(up: nn.ConvTranspose3d, weight: Tensor) -> Tensor:
    """Combine a transposed convolution with a convolution of its output.

    Parameters
    ----------
    up
        Transposed convolution from I to U features, kernels of 2 voxels, stride 2, with a bias.
    weight
        Kernels (O, U, k, k, k), k odd.

    Returns
    -------
    Tensor
        Kernels (2, 2, 2, O, I + 1, t, t, t): for each of `CORNERS`, those that map the input of `up` and a
        channel of ones. That channel carries the bias of `up`, which is absent outside the volume.
    """
    assert up.bias is not None
    size = weight.shape[-1]
    taps, margin, later = window(size)
    # 1 where, for a corner and a tap of the kernel, the fine voxel lies: tap below and half of that voxel
    place = weight.new_zeros(2, size, taps, 2)
    for corner, tap in product(range(2), range(size)):
        fine = corner + tap - size // 2
        place[corner, tap, fine // 2 + margin - corner * later, fine % 2] = 1
    spread = torch.cat([up.weight, up.bias[None, :, None, None, None].expand(1, -1, 2, 2, 2)])
    found = torch.einsum("oudef,iuabc->oidefabc", weight, spread.to(weight.dtype))
    found = torch.einsum("oidefabc,zdpa->oizpefbc", found, place)
    found = torch.einsum("oizpefbc,yeqb->oizpyqfc", found, place)
    return torch.einsum("oizpyqfc,xfrc->zyxoipqr", found, place)


def upsampled_convolution(
    up: nn.ConvTranspose3d, convolution: nn.Conv3d, below: Tensor, skip: Tensor
) -> Tensor:
    """Return ``convolution(cat([up(below), skip]))``, faster on a CPU.

    Parameters
    ----------
    up
        Transposed convolution, kernels of 2 voxels, stride 2.
    convolution
        Convolution with an odd kernel size and padding ``same``.
    below, skip
        Features (B, I, Z, Y, X) and (B, S, 2 Z, 2 Y, 2 X).
    """
    from_below, from_skip = convolution.weight.split([up.out_channels, skip.shape[1]], 1)
    kernels = kernels_below(up, from_below).flatten(0, 3)
    _, margin, later = window(convolution.kernel_size[0])
    channels = torch.cat([below, torch.ones_like(below[:, :1])], 1)
    # one voxel more per axis than `below` if the second window lies one voxel later
    corners = torch.conv3d(channels, kernels, padding=margin)
    joined = torch.conv3d(skip, from_skip, convolution.bias, padding=convolution.padding)
    added: Tensor = _AddCorners.apply(joined, corners, later)
    return added


class _AddCorners(torch.autograd.Function):
    """Add corners (B, 8 O, ...) to the fine voxels (B, O, Z, Y, X) where they belong."""

    @staticmethod
    def forward(ctx: Any, joined: Tensor, corners: Tensor, later: int) -> Tensor:
        ctx.mark_dirty(joined)
        ctx.shape, ctx.later = corners.shape, later
        for fine, coarse in _places(joined, corners, later):
            fine += coarse
        return joined

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        corners = gradient.new_zeros(ctx.shape).to(memory_format=torch.channels_last_3d)
        for fine, coarse in _places(gradient, corners, ctx.later):
            coarse.copy_(fine)
        return gradient, corners, None


def _places(fine: Tensor, corners: Tensor, later: int) -> list[tuple[Tensor, Tensor]]:
    features = fine.shape[1]
    depth, height, width = (n // 2 for n in fine.shape[2:])
    pairs = []
    for number, (z, y, x) in enumerate(CORNERS):
        own = corners[:, number * features : (number + 1) * features]
        own = own[:, :, z * later :, y * later :, x * later :][:, :, :depth, :height, :width]
        pairs.append((fine[:, :, z::2, y::2, x::2], own))
    return pairs
