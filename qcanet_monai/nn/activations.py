"""Activations that turn a network's logits into probabilities and densities."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """Return the softmax of logits (B, C, Z, Y, X), or the sigmoid if C is 1."""
    return logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()


def foreground(logits: Tensor) -> Tensor:
    """Map logits (B, C, Z, Y, X) to the last channel's probability (B, 1, Z, Y, X)."""
    return probabilities(logits)[:, -1:]


def mask_and_density(outputs: Tensor) -> Tensor:
    """Map outputs (B, 2, Z, Y, X) to a mask probability and a density of 0 or more."""
    return torch.cat([outputs[:, :1].sigmoid(), outputs[:, 1:].relu()], dim=1)
