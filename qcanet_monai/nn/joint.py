"""Segmentation and detection of nuclei by one network, or by two for comparison (Ram et al. 2018)."""

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
    """A U-Net's mask, and a density of nuclei that a second network finds in the mask and the image.

    The density is a sum of Gaussians about the nuclei's centres; its gradient reaches the U-Net through the
    mask, so that images with centres alone train both (Ram et al. 2018, Fig. 1). It begins at 0: the error
    of a random density over all the background would drown that of the mask.

    Parameters
    ----------
    in_channels, depth, channels, kernel_size, padding, dropout
        Of the U-Net, see `UNet3D`. The detector always pads; it drops channels after its first two
        convolutions.
    detector_channels
        Features of the detector's three convolutions.
    detector
        ``cnn`` is the paper's, which sees the image and the mask; ``features`` sees those that the mask is
        made of as well, and with them as far as the U-Net does; ``unet`` is a second U-Net in the small
        network's place: NSN and NDN trained end to end.

    Attributes
    ----------
    depth : int
        Number of the U-Net's poolings.
    margin : int
        Voxels that the outputs lack on every side of the image; 0 with padding ``same``.
    reach : int
        How far the detector, which pads, sees beyond that.

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
        """Mask logit and density (B, 2, Z, Y, X) of an image (B, in_channels, Z, Y, X), the same grid.

        With padding ``valid`` each of Z, Y and X is smaller by ``2 * margin``.

        Raises
        ------
        ModelError
            If the U-Net cannot take the size, see `UNet3D`.
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
    """Three convolutions and a density, which is 0."""
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
    """The rival of `JointNet`: two U-Nets that know nothing of each other, with the same outputs.

    Parameters
    ----------
    in_channels, depth, channels, kernel_size, padding, dropout
        Of either U-Net, see `UNet3D`.

    Attributes
    ----------
    depth, margin, reach : int
        As those of `JointNet`.

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
        padding: str = "same",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.segmenter = UNet3D(in_channels, 1, depth, channels, kernel_size, padding, dropout)
        self.detector = UNet3D(in_channels, 1, depth, channels, kernel_size, padding, dropout)
        nn.init.zeros_(self.detector.head.weight)
        self.depth, self.margin, self.reach = depth, self.segmenter.margin, 0

    def forward(self, x: Tensor) -> Tensor:
        """Mask logit and density (B, 2, Z, Y, X) of an image (B, in_channels, Z, Y, X), as `JointNet`'s."""
        return torch.cat([self.segmenter(x), self.detector(x)], dim=1)


def build_joint(detector: str = "cnn", *, detector_channels: int = 16, **options: Any) -> nn.Module:
    """`JointNet` with one of two detectors, or `SeparateNets`, by name.

    Parameters
    ----------
    detector
        ``features``, ``cnn``, ``unet`` or ``separate``.
    detector_channels
        Read by ``features`` and ``cnn``.
    options
        What both networks take.

    Raises
    ------
    ModelError
        If the name is unknown.
    """
    if detector not in DETECTORS:
        raise ModelError(f"expected a detector of {', '.join(DETECTORS)}, got {detector!r}")
    if detector == "separate":
        return SeparateNets(**options)
    return JointNet(detector=detector, detector_channels=detector_channels, **options)
