"""3DCellSegNet, a light residual U-Net for membrane images (Wang et al. 2022)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from qcanet_monai.nn.residual import Residual
from qcanet_monai.nn.unet import centre_cropped, check_counts, he_normal


class CellSegNet3D(nn.Module):
    """Residual U-Net of four levels with additive skips (Wang et al. 2022, Fig. 4).

    The levels have 32 to 64 features. Upsampled features are centre-cropped to their skip, so volumes may
    have any size. The number of parameters equals the authors'. A channel count below 1 raises a ModelError.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits: background, membrane and foreground.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 3) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels)
        width = (32, 64, 64, 64)
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, 16, 1),
            nn.Conv3d(16, width[0], 3, padding=1),
            nn.BatchNorm3d(width[0]),
            nn.ReLU(inplace=True),
        )
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv3d(before, after, 3, stride=2, padding=1), Residual(after))
            for before, after in pairwise(width)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose3d(before, after, 4, stride=2, padding=1),
                nn.BatchNorm3d(after),
                nn.ReLU(inplace=True),
            )
            for before, after in pairwise(reversed(width))
        )
        self.head = nn.Conv3d(width[0], out_channels, 3, padding=1)
        self.apply(he_normal)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, Z, Y, X) to logits (B, out_channels, Z, Y, X)."""
        x = self.stem(x)
        skips: list[Tensor] = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for up in self.up:
            skip = skips.pop()
            x = skip + centre_cropped(up(x), skip)
        head: Tensor = self.head(x)
        return head
