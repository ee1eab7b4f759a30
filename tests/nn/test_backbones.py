"""Cell networks by name."""

import pytest
import torch

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.backbones import BACKBONES, build_backbone
from qcanet_monai.nn.cellseg3d import CellSegNet3D
from qcanet_monai.nn.voxresnet import VoxResNet


@pytest.mark.parametrize(("name", "kind"), [("cellseg3d", CellSegNet3D), ("voxresnet", VoxResNet)])
def test_a_name_stands_for_its_network(name, kind):
    with torch.device("meta"):
        assert type(build_backbone(name)) is kind
    assert set(BACKBONES) == {"cellseg3d", "voxresnet"}


@pytest.mark.parametrize("name", BACKBONES)
def test_channels_are_those_asked_for_and_the_grid_is_kept(name):
    with torch.device("meta"):
        plain, other = build_backbone(name).eval(), build_backbone(name, 2, 5).eval()
    assert plain(torch.empty(1, 1, 8, 16, 8, device="meta")).shape == (1, 3, 8, 16, 8)
    assert other(torch.empty(2, 2, 16, 8, 8, device="meta")).shape == (2, 5, 16, 8, 8)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ModelError, match="expected a backbone of cellseg3d, voxresnet, got 'resnet'"):
        build_backbone("resnet")
