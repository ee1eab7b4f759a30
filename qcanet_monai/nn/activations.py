"""From a network's logits to what its outputs mean."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the channels of logits (B, C, Z, Y, X), or the sigmoid of a single one."""
    return logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()


def foreground(logits: Tensor) -> Tensor:
    """Probability (B, 1, Z, Y, X) of the last channel of logits (B, C, Z, Y, X)."""
    return probabilities(logits)[:, -1:]


def mask_and_density(outputs: Tensor) -> Tensor:
    """Probability of a mask's logit and a density above 0, of outputs (B, 2, Z, Y, X)."""
    return torch.cat([outputs[:, :1].sigmoid(), outputs[:, 1:].relu()], dim=1)
