"""Residual block of 3DCellSegNet and VoxResNet."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """Residual block x + conv(ReLU(BN(x))) (He et al. 2016, with one convolution)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.BatchNorm3d(channels), nn.ReLU(inplace=True), nn.Conv3d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, Z, Y, X) to features of the same shape."""
        return x + self.block(x)
