"""NSN and NDN side by side, as one network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QCANet(nn.Module):
    """Both networks on one image; their masks meet in the watershed, not here.

    Parameters
    ----------
    nsn, ndn
        Networks with the same input.
    """

    def __init__(self, nsn: nn.Module, ndn: nn.Module) -> None:
        super().__init__()
        self.nsn, self.ndn = nsn, ndn

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 4, Z, Y, X) of an image (B, 1, Z, Y, X): NSN's two channels, then NDN's."""
        return torch.cat([self.nsn(x), self.ndn(x)], dim=1)
