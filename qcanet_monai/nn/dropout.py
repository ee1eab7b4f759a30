"""Dropout while testing: samples of what a network might have become (Gal & Ghahramani 2016)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class _Sampled(nn.Module):
    """Dropout with random numbers of its own, whatever other threads draw; `whole` drops channels.

    Whole channels stay dropped until `redraw`: what goes through in parts is one network's.
    """

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
    """The layers of a network that drop; none if it was made without dropout."""
    return [module for module in network.modules() if isinstance(module, nn.Dropout | nn.Dropout3d)]


def with_dropout(network: nn.Module, seed: int, device: torch.device | str = "cpu") -> nn.Module:
    """A copy in evaluation mode but for its dropout: every sample of a batch is one of the posterior's.

    Parameters
    ----------
    network
        Trained with dropout; left as it is.
    seed
        Fixes what is dropped.
    device
        Where the network is.
    """
    generator = torch.Generator(device).manual_seed(seed)
    sampled = copy.deepcopy(network).eval()
    for parent in list(sampled.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout | nn.Dropout3d):
                setattr(parent, name, _Sampled(child.p, isinstance(child, nn.Dropout3d), generator))
    return sampled


def redraw(network: nn.Module) -> None:
    """Let the next pass of what `with_dropout` gave drop other features."""
    for module in network.modules():
        if isinstance(module, _Sampled):
            module.mask = None
