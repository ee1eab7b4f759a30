"""Cost of a network: parameters, and multiply-adds for one volume."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# 51 x 120 x 122 voxels of 1.75 x 0.8 x 0.8 um, made isotropic and padded for four poolings
VOLUME = (112, 128, 128)


def cost_of(build: Callable[[], nn.Module], volume: tuple[int, int, int] = VOLUME) -> tuple[int, int]:
    """Count parameters and multiply-adds without computing or allocating anything.

    Multiply-adds cover convolutions and transposed convolutions, without biases and norms.

    Parameters
    ----------
    build
        Function that builds the network; called on torch's meta device.
    volume
        Size (Z, Y, X) in voxels of the one-channel input volume.
    """
    with torch.device("meta"):
        network = build()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network(torch.empty(1, 1, *volume))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2
