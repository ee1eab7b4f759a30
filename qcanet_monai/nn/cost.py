"""Cost of a network: parameters, multiply-adds for one volume, and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def memory_load(build: Callable[[], nn.Module], shape: Sequence[int]) -> float:
    """Estimate the bytes of one training step, to compare networks and batches.

    Counts, in single precision, the output of every layer, which is kept for the gradient, and four values
    per parameter: weight, gradient and Adam's two averages.

    Parameters
    ----------
    build
        Function that builds the network; called on torch's meta device.
    shape
        Shape (B, 1, Z, Y, X) of a training batch.
    """
    values = 0

    def add(_module: nn.Module, _given: object, output: object) -> None:
        nonlocal values
        values += output.numel() if isinstance(output, torch.Tensor) else 0

    with torch.device("meta"):
        network = build()
        for module in network.modules():
            if not any(module.children()):
                module.register_forward_hook(add)
        with torch.no_grad():
            network(torch.empty(*shape))
    return 4.0 * (values + 4 * sum(p.numel() for p in network.parameters()))
