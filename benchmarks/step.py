"""Time a training step of the shipped networks: python -m benchmarks.step.

A step is forward pass, loss, backward pass and optimiser, on four patches of 64³ voxels in bf16 autocast. One
network trains layer after layer with Dice and cross-entropy, as before; the other without its upsampled
features and with cross-entropy. Both run in turn in one process; the ratio of their seconds is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.timing import figure, ratios, seconds
from qcanet_monai.nn.losses import build_loss
from qcanet_monai.nn.unet import UNet3D

PATCHES, EDGE = 4, 64
DEPTH, CHANNELS = 3, 8
MOST = 0.7  # of the seconds before


class _LayerByLayer(UNet3D):
    """Network that computes the upsampled features."""

    def _is_fast(self, x: Tensor) -> bool:  # noqa: ARG002
        return False


def step(kind: type[UNet3D], loss_name: str) -> Callable[[], None]:
    """Return a function that trains a network by one step."""
    torch.manual_seed(0)
    network = kind(depth=DEPTH, channels=CHANNELS).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer, loss = torch.optim.AdamW(network.parameters()), build_loss(loss_name)
    image = torch.rand(PATCHES, 1, EDGE, EDGE, EDGE).to(memory_format=torch.channels_last_3d)
    target = (image > 0.8).float()

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image)
        loss(logits, target).backward()
        optimizer.step()

    return run


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    before, now = step(_LayerByLayer, "dice_cross_entropy"), step(UNet3D, "cross_entropy")
    before()
    now()
    found = ratios(lambda: seconds(now), lambda: seconds(before), options.rounds)
    print("| what | measured (spread) | target | holds |\n| --- | --- | --- | --- |")
    print(figure("seconds of a training step, relative to before", found, MOST, at_most=True))


if __name__ == "__main__":
    main()
