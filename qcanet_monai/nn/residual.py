"""The residual block of 3DCellSegNet and VoxResNet."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """x + conv(ReLU(BN(x))), of as many features as it is given (He et al. 2016, with one convolution)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.BatchNorm3d(channels), nn.ReLU(inplace=True), nn.Conv3d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, Z, Y, X) of features (B, C, Z, Y, X)."""
        return x + self.block(x)
