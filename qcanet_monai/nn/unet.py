"""The one U-Net family behind NSN, NDN and the 3D U-Net baseline.

Tokuoka et al. 2020 (QCANet), Fig. 2; the counts of parameters are those of the authors' networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcanet_monai.errors import ModelError


class UNet3D(nn.Module):
    """3-D U-Net with batch norm, parametrised by the axes that a search explores.

    Encoder level l = 0..depth holds two convolutions, to ``channels * 2**l`` and to
    ``channels * 2**(l + 1)`` features, and a max-pooling by 2 except after the last. A decoder level is a
    transposed convolution of stride 2, the skip's concatenation and two convolutions; a 1x1x1
    convolution ends it.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits (2 for softmax, 1 for sigmoid).
    depth
        Number of poolings, at least 1.
    channels
        Features of the first convolution.
    kernel_size
        Odd edge length of the convolutions' kernels, in voxels.

    Raises
    ------
    ModelError
        If a parameter is out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        depth: int = 2,
        channels: int = 16,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        _check(depth=depth, channels=channels, in_channels=in_channels, out_channels=out_channels)
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ModelError(f"expected an odd kernel_size of at least 1, got {kernel_size!r}: try 3 or 5")
        self.depth, self.kernel_size = depth, kernel_size
        width = [channels * 2**level for level in range(depth + 2)]
        self.encoder = nn.ModuleList(
            _double(in_channels if level == 0 else width[level], width[level], width[level + 1], kernel_size)
            for level in range(depth + 1)
        )
        self.pool = nn.MaxPool3d(2)
        levels = range(depth - 1, -1, -1)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(width[lv + 2], width[lv + 2], 2, stride=2) for lv in levels
        )
        self.decoder = nn.ModuleList(
            _double(width[lv + 2] + width[lv + 1], width[lv + 1], width[lv + 1], kernel_size) for lv in levels
        )
        self.head = nn.Conv3d(width[1], out_channels, 1)
        self.apply(_he_normal)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, Z, Y, X) of an image (B, in_channels, Z, Y, X), the same grid.

        Raises
        ------
        ModelError
            If Z, Y or X is no multiple of ``2**depth``.
        """
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self._check_size(x)
        skips: list[Tensor] = []
        for level, encode in enumerate(self.encoder):
            x = encode(x)
            if level < self.depth:
                skips.append(x)
                x = self.pool(x)
        for up, decode in zip(self.up, self.decoder):  # noqa: B905 - TorchScript knows no `strict`
            x = decode(torch.cat([up(x), skips.pop()], dim=1))
        head: Tensor = self.head(x)
        return head

    def join(self, position: int, below: Tensor, skip: Tensor) -> Tensor:
        """Output of a decoder, counted from the lowest, for the level below and the encoder's features."""
        joined = torch.cat([self.up[position](below), skip], dim=1)
        return self.decoder[position](joined)

    def _check_size(self, x: Tensor) -> None:
        multiple = 2**self.depth
        if any(size % multiple for size in x.shape[2:]):
            raise ModelError(
                f"expected edge lengths that are multiples of {multiple}, got {tuple(x.shape[2:])}: "
                "pad the volume or run through the bundle's inferer"
            )


def count_parameters(network: nn.Module, *, convolution_biases: bool = True) -> int:
    """Trainable parameters; without the convolutions' biases it is the way the paper counts."""
    total = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if convolution_biases:
        return total
    convolutions = (m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d))
    return total - sum(m.bias.numel() for m in convolutions if m.bias is not None)


def _double(inner: int, middle: int, outer: int, kernel_size: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((inner, middle), (middle, outer)):
        layers += [
            nn.Conv3d(before, after, kernel_size, padding=kernel_size // 2),
            nn.BatchNorm3d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _he_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"expected {name} to be a whole number of at least 1, got {value!r}")
