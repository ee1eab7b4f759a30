"""QCANet: NSN and NDN as one network, and the loss that trains both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qcanet_monai.nn.losses import build_loss

_CLASSES = 2  # background and foreground, of each network


class QCANet(nn.Module):
    """NSN and NDN on the same image; the watershed combines their masks later."""

    def __init__(self, nsn: nn.Module, ndn: nn.Module) -> None:
        super().__init__()
        self.nsn, self.ndn = nsn, ndn

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, 1, Z, Y, X) to logits (B, 4, Z, Y, X): NSN's, then NDN's."""
        return torch.cat([self.nsn(x), self.ndn(x)], dim=1)


class QCANetLoss(nn.Module):
    """Sum of the losses of NSN and NDN.

    Parameters
    ----------
    nsn, ndn
        Names of class losses, see ``nn.losses.build_loss``.
    """

    def __init__(self, nsn: str, ndn: str) -> None:
        super().__init__()
        self.nsn, self.ndn = build_loss(nsn), build_loss(ndn)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map logits (B, 4, Z, Y, X) and a target (B, 1, Z, Y, X) to a scalar.

        For the target, see ``core.targets.build.qcanet_target``.
        """
        classes = target.long()
        nsn: Tensor = self.nsn(logits[:, :_CLASSES], classes & 1)
        ndn: Tensor = self.ndn(logits[:, _CLASSES:], classes >> 1)
        return nsn + ndn
