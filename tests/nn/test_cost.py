"""Cost of a network, counted without running it."""

import pytest
import torch

from qcanet_monai.nn.cost import VOLUME, cost_of
from qcanet_monai.nn.unet import UNet3D

PAPER = {
    "nsn": {"depth": 2, "channels": 16, "kernel_size": 3},
    "ndn": {"depth": 4, "channels": 12, "kernel_size": 5},
}


def cost(volume=VOLUME, **parameters) -> tuple[int, int]:
    return cost_of(lambda: UNet3D(**parameters), volume)


@pytest.mark.parametrize(
    ("name", "parameters", "gflop"), [("nsn", 1_147_618, 741), ("ndn", 44_450_498, 2321)]
)
def test_the_papers_networks_cost_what_was_measured(name, parameters, gflop):
    assert VOLUME == (112, 128, 128)
    found, multiply_adds = cost(**PAPER[name])
    assert found == parameters
    assert 2 * multiply_adds == pytest.approx(gflop * 1e9, rel=0.005)


def test_the_smallest_network_costs_what_counting_by_hand_gives():
    # depth 1, channels 1, kernels of one voxel; 4 x 4 x 4 = 64 voxels, 8 after the pooling
    convolutions = [  # inputs, outputs, voxels of the output
        *((1, 1, 64), (1, 2, 64)),  # encoder
        *((2, 2, 8), (2, 4, 8)),  # after the pooling
        *((4 + 2, 2, 64), (2, 2, 64)),  # decoder, with the two features of the skip
        (2, 2, 64),  # head
    ]
    transposed = 4 * 4 * 8 * 8  # each of 8 voxels gives 2 x 2 x 2, from 4 features to 4
    weights = sum(i * o + o for i, o, _ in convolutions) + (4 * 4 * 8 + 4)
    norms = 2 * (1 + 2 + 2 + 4 + 2 + 2)
    assert (weights + norms, sum(i * o * n for i, o, n in convolutions) + transposed) == (208, 2592)
    assert cost((4, 4, 4), depth=1, channels=1, kernel_size=1) == (208, 2592)


def test_multiply_adds_grow_with_the_volume_and_parameters_do_not():
    parameters, once = cost((8, 8, 8), depth=2, channels=3)
    assert cost((16, 8, 24), depth=2, channels=3) == (parameters, 6 * once)


def test_nothing_is_allocated():
    parameters, multiply_adds = cost(depth=4, channels=10_000)
    assert parameters > 1e12
    assert multiply_adds > 1e17


def test_the_default_device_is_as_before():
    cost((4, 4, 4), depth=1, channels=1)
    assert torch.empty(1).device.type == "cpu"
