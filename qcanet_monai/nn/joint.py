"""Joint segmentation and detection of nuclei (Ram et al. 2018), and a baseline."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.unet import UNet3D, centre_cropped, check_counts, he_normal

_OF_ONE_NETWORK = ("features", "cnn", "unet")
DETECTORS = (*_OF_ONE_NETWORK, "separate")
_REACH = 3  # of three convolutions of 3 voxels


class JointNet(nn.Module):
    """U-Net for a mask, with a detector for the density of nuclear centres.

    The density is a sum of Gaussians at the centres. Its gradient reaches the U-Net through the mask, so
    images that annotate only centres also train the U-Net (Ram et al. 2018, Fig. 1). The initial density
    is 0: the error of a random density over the background would dominate the loss.

    Parameters
    ----------
    in_channels, depth, channels, kernel_size, padding, dropout
        U-Net parameters, see `UNet3D`. The detector always pads. Unless it is ``unet``, the detector drops
        channels after its first two convolutions.
    detector_channels
        Features of the detector's three convolutions; unused by ``unet``.
    detector
        ``cnn`` reads the image and the mask, as in the paper. ``features`` also reads the U-Net's last
        features, and so has the U-Net's receptive field. ``unet`` is a second U-Net on image and mask: NSN
        and NDN trained end to end.

    Attributes
    ----------
    depth : int
        Number of poolings of the U-Net.
    margin : int
        Voxels missing from the outputs on every side; 0 with padding ``same``.
    reach : int
        Voxels on every side that the padded detector sees beyond `margin`.

    Raises
    ------
    ModelError
        If a parameter is out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        depth: int = 2,
        channels: int = 16,
        kernel_size: int = 3,
        detector_channels: int = 16,
        padding: str = "same",
        dropout: float = 0.0,
        detector: str = "cnn",
    ) -> None:
        super().__init__()
        check_counts(detector_channels=detector_channels)
        if detector not in _OF_ONE_NETWORK:
            raise ModelError(f"expected a detector of {', '.join(_OF_ONE_NETWORK)}, got {detector!r}")
        self.segmenter = UNet3D(in_channels, 1, depth, channels, kernel_size, padding, dropout)
        self.depth, self.margin = depth, self.segmenter.margin
        self.shares_features = detector == "features"
        self.detector: nn.Module
        if detector == "unet":
            self.detector = UNet3D(in_channels + 1, 1, depth, channels, kernel_size, "same", dropout)
            reach = UNet3D(1, 1, depth, 1, kernel_size, "valid").margin
            nn.init.zeros_(self.detector.head.weight)
        else:
            shared = self.segmenter.head.in_channels if self.shares_features else 0
            self.detector = _small(shared + 1 + in_channels, detector_channels, dropout)
            reach = _REACH
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, C, Z, Y, X) to a mask logit and a density (B, 2, Z, Y, X).

        With padding ``valid``, the outputs lack `margin` voxels per side. Raises the size errors of `UNet3D`.
        """
        features = self.segmenter.features(x)
        mask = self.segmenter.head(features)
        if self.margin > 0:
            x = centre_cropped(x, mask)
        seen = [torch.sigmoid(mask), x]
        if self.shares_features:
            seen.append(features)
        density = self.detector(torch.cat(seen, dim=1))
        return torch.cat([mask, density], dim=1)


def _small(inner: int, channels: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for position in range(3):
        layers.append(nn.Conv3d(channels if position else inner, channels, 3, padding=1))
        layers.append(nn.BatchNorm3d(channels))
        layers.append(nn.ReLU(inplace=True))
        if dropout and position < 2:
            layers.append(nn.Dropout3d(dropout))
    density = nn.Conv3d(channels, 1, 1)
    network = nn.Sequential(*layers, density).apply(he_normal)
    nn.init.zeros_(density.weight)
    return network


class SeparateNets(nn.Module):
    """Baseline of `JointNet`: two independent U-Nets with the same outputs.

    Parameters and errors are those of `UNet3D`; attributes are those of `JointNet`, with a `reach` of 0.
    """

    def __init__(
        self,
        in_channels: int = 1,
        depth: int = 2,
        channels: int = 16,
        kernel_size: int = 3,
        padding: str = "same",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.segmenter = UNet3D(in_channels, 1, depth, channels, kernel_size, padding, dropout)
        self.detector = UNet3D(in_channels, 1, depth, channels, kernel_size, padding, dropout)
        nn.init.zeros_(self.detector.head.weight)
        self.depth, self.margin, self.reach = depth, self.segmenter.margin, 0

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, C, Z, Y, X) to a mask logit and a density (B, 2, Z, Y, X)."""
        return torch.cat([self.segmenter(x), self.detector(x)], dim=1)


def build_joint(detector: str = "cnn", *, detector_channels: int = 16, **options: Any) -> nn.Module:
    """Build a `JointNet` or, for the detector ``separate``, a `SeparateNets`.

    `options` are the parameters that both classes share; ``features`` and ``cnn`` use `detector_channels`.

    Raises
    ------
    ModelError
        If `detector` is not ``features``, ``cnn``, ``unet`` or ``separate``.
    """
    if detector not in DETECTORS:
        raise ModelError(f"expected a detector of {', '.join(DETECTORS)}, got {detector!r}")
    if detector == "separate":
        return SeparateNets(**options)
    return JointNet(detector=detector, detector_channels=detector_channels, **options)
