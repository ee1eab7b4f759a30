"""QCANet: NSN and NDN as one network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QCANet(nn.Module):
    """NSN and NDN on the same image; the watershed combines their masks later."""

    def __init__(self, nsn: nn.Module, ndn: nn.Module) -> None:
        super().__init__()
        self.nsn, self.ndn = nsn, ndn

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, 1, Z, Y, X) to logits (B, 4, Z, Y, X): NSN's, then NDN's."""
        return torch.cat([self.nsn(x), self.ndn(x)], dim=1)
