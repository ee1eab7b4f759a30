"""Anisotropic U-Net for images with coarse z sampling (Mikeščíková 2023)."""

from __future__ import annotations

from functools import partial
from math import prod

import torch
from monai.networks.nets.attentionunet import AttentionBlock
from torch import Tensor, nn

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.unet import check_block, check_counts, double_convolution, he_normal


class AnisotropicUNet(nn.Module):
    """3-D U-Net whose first poolings keep the z resolution.

    The first `flat_poolings` poolings are (1, 2, 2), the others (2, 2, 2), all on the native grid. The
    network follows Section 5.2 of Mikeščíková 2023 (Charles University, bachelor thesis). With the defaults
    and ``norm=False`` it has 1.4 M parameters.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits (2 for softmax, 1 for sigmoid).
    channels
        Features of the first level; each further level doubles them.
    levels
        Number of resolutions, at least 2; the network has ``levels - 1`` poolings.
    flat_poolings
        Number of poolings that keep the z resolution.
    kernel_size
        Kernel edge length of the convolutions, odd, in voxels.
    attention
        Apply an attention gate to the skip connection of the lowest decoder (Oktay et al. 2018).
    dropout
        Fraction of single values dropped before every pooling and every transposed convolution.
    norm
        Add a batch norm after each convolution; the thesis uses none.

    Attributes
    ----------
    multiple : tuple of int
        Required divisors of the edge lengths (z, y, x) of a volume; (2, 16, 16) with the defaults.

    Raises
    ------
    ModelError
        If a parameter is out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: int = 8,
        levels: int = 5,
        flat_poolings: int = 3,
        kernel_size: int = 3,
        attention: bool = False,
        dropout: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, channels=channels)
        check_block(kernel_size, dropout)
        _check_levels(levels, flat_poolings)
        steps = [(1 if level < flat_poolings else 2, 2, 2) for level in range(levels - 1)]
        self.multiple = tuple(prod(along) for along in zip(*steps, strict=True))
        width = [channels * 2**level for level in range(levels)]
        block = partial(double_convolution, kernel_size=kernel_size, norm=norm, whole=False)
        self.encoder = nn.ModuleList(
            block(width[level - 1] if level else in_channels, width[level], width[level], dropout=dropout)
            for level in range(levels)
        )
        self.pools = nn.ModuleList(nn.MaxPool3d(step) for step in steps)
        upwards = range(levels - 2, -1, -1)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(width[lv + 1], width[lv], steps[lv], stride=steps[lv]) for lv in upwards
        )
        skip = width[-2]
        self.attention = AttentionBlock(3, max(1, skip // 2), skip, skip) if attention else None
        self.decoder = nn.ModuleList(
            block(width[lv + 1], width[lv], width[lv], dropout=dropout if lv else 0.0) for lv in upwards
        )
        self.head = nn.Conv3d(channels, out_channels, 1)
        self.apply(he_normal)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, Z, Y, X) to logits (B, out_channels, Z, Y, X).

        Raises
        ------
        ModelError
            If Z, Y or X is not a multiple of its entry in `multiple`.
        """
        if not (torch.jit.is_tracing() or torch.jit.is_scripting()):
            self._check(x)
        skips: list[Tensor] = []
        # TorchScript does not support `strict`
        for encode, pool in zip(self.encoder, self.pools):  # noqa: B905 - no pooling after the last
            x = encode(x)
            skips.append(x)
            x = pool(x)
        x = self.encoder[-1](x)
        for position, (up, decode) in enumerate(zip(self.up, self.decoder)):  # noqa: B905
            x, skip = up(x), skips.pop()
            if position == 0 and self.attention is not None:
                skip = self.attention(g=x, x=skip)
            x = decode(torch.cat([x, skip], dim=1))
        head: Tensor = self.head(x)
        return head

    def _check(self, x: Tensor) -> None:
        size = tuple(x.shape[2:])
        if any(n % m for n, m in zip(size, self.multiple, strict=True)):
            raise ModelError(
                f"expected edge lengths (z, y, x) that are multiples of {self.multiple}, got {size}: "
                "pad the volume or run through the bundle's inferer"
            )


def _check_levels(levels: int, flat_poolings: int) -> None:
    check_counts(levels=levels)
    if levels < 2:
        raise ModelError(f"expected at least 2 levels, got {levels}")
    if not isinstance(flat_poolings, int) or not 0 <= flat_poolings < levels:
        raise ModelError(
            f"expected flat_poolings of 0 to {levels - 1} for {levels} levels (one pooling fewer), "
            f"got {flat_poolings!r}"
        )
