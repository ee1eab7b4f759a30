"""Networks that separate cell interiors from membranes, selected by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.cellseg3d import CellSegNet3D
from qcanet_monai.nn.voxresnet import VoxResNet

BACKBONES: dict[str, Callable[[int, int], nn.Module]] = {"cellseg3d": CellSegNet3D, "voxresnet": VoxResNet}


def build_backbone(name: str, in_channels: int = 1, out_channels: int = 3) -> nn.Module:
    """Build ``cellseg3d`` (Wang et al. 2022) or ``voxresnet`` (Chen et al. 2018).

    Raises
    ------
    ModelError
        If the name is unknown.
    """
    if name not in BACKBONES:
        raise ModelError(f"expected a backbone of {', '.join(BACKBONES)}, got {name!r}")
    return BACKBONES[name](in_channels, out_channels)
