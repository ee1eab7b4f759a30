"""VoxResNet (Chen et al. 2018), with the layer sizes of Wang et al. 2022."""

from __future__ import annotations

from torch import Tensor, nn

from qcanet_monai.nn.residual import Residual
from qcanet_monai.nn.unet import centre_cropped, check_counts, he_normal


class VoxResNet(nn.Module):
    """Residual network that sums the logits of its four levels.

    The levels have 32 to 64 features. Each level is upsampled in one step and centre-cropped to the image, so
    volumes may have any size; the authors' network needs multiples of 8. The number of parameters equals the
    authors'. A channel count below 1 raises a ModelError.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits: background, membrane and foreground.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 3) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels)
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv3d(in_channels, 32, 3, padding=1),
                    nn.BatchNorm3d(32),
                    nn.ReLU(inplace=True),
                    nn.Conv3d(32, 32, 3, padding=1),
                ),
                _level(32, 64),
                _level(64, 64),
                _level(64, 64),
            ]
        )
        self.branches = nn.ModuleList(
            _branch(channels, 2**level, out_channels) for level, channels in enumerate((32, 64, 64, 64))
        )
        self.apply(he_normal)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, Z, Y, X) to logits (B, out_channels, Z, Y, X)."""
        image = x
        logits: list[Tensor] = []
        for level, branch in zip(self.levels, self.branches, strict=True):
            x = level(x)
            logits.append(centre_cropped(branch(x), image))
        total = logits[0]
        for other in logits[1:]:
            total = total + other
        return total


def _level(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm3d(before),
        nn.ReLU(inplace=True),
        nn.Conv3d(before, after, 3, stride=2, padding=1),
        Residual(after),
        Residual(after),
    )


def _branch(channels: int, stride: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose3d(channels, channels, stride + 2, stride=stride, padding=1),
        nn.ReLU6(inplace=True),
        nn.Conv3d(channels, out_channels, 3, padding=1),
    )
