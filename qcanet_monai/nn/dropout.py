"""Monte Carlo dropout: samples from a network (Gal & Ghahramani 2016)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class _Sampled(nn.Module):
    """Dropout with its own generator; channel masks (`whole`) last until `redraw`."""

    def __init__(self, share: float, whole: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.kept, self.whole, self.generator = 1 - share, whole, generator
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask
        if mask is None or not self.whole or len(mask) != len(x):
            shape = (*x.shape[:2], 1, 1, 1) if self.whole else x.shape
            kept = torch.empty(shape, device=x.device).bernoulli_(self.kept, generator=self.generator)
            self.mask = mask = kept / self.kept
        return x * mask.to(x.dtype)


def dropouts(network: nn.Module) -> list[nn.Dropout | nn.Dropout3d]:
    """Return a network's dropout layers."""
    return [module for module in network.modules() if isinstance(module, nn.Dropout | nn.Dropout3d)]


def with_dropout(network: nn.Module, seed: int, device: torch.device | str = "cpu") -> nn.Module:
    """Copy a network in evaluation mode with dropout active, seeded with `seed`.

    Each sample of a batch is a separate draw from the posterior over networks. The tiles of a volume share
    one draw if dropout acts on whole channels. `device` is the network's device.
    """
    generator = torch.Generator(device).manual_seed(seed)
    sampled = copy.deepcopy(network).eval()
    for parent in list(sampled.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout | nn.Dropout3d):
                setattr(parent, name, _Sampled(child.p, isinstance(child, nn.Dropout3d), generator))
    return sampled


def redraw(network: nn.Module) -> None:
    """Make the next pass of a `with_dropout` network draw new channel masks."""
    for module in network.modules():
        if isinstance(module, _Sampled):
            module.mask = None
