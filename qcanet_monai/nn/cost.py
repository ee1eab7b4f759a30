"""What a network costs: its parameters, and its multiply-adds for one volume."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# the isotropic grid of a 51 x 120 x 122 volume of 1.75 x 0.8 x 0.8 um, padded for four poolings
VOLUME = (112, 128, 128)


def cost_of(build: Callable[[], nn.Module], volume: tuple[int, int, int] = VOLUME) -> tuple[int, int]:
    """Parameters and multiply-adds of a network, without computing or allocating anything.

    Parameters
    ----------
    build
        Makes the network; called on torch's meta device.
    volume
        Size (Z, Y, X) in voxels of the one-channel volume that it sees.

    Returns
    -------
    parameters, multiply_adds
        Counted over the convolutions and their transposes; biases and norms are left out of the latter.
    """
    with torch.device("meta"):
        network = build()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network(torch.empty(1, 1, *volume))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2
