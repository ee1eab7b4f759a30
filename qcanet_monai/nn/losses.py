"""The losses a study chooses from, by name.

All take logits (B, C, Z, Y, X) and a class map (B, 1, Z, Y, X).
"""

from __future__ import annotations

from collections.abc import Callable

from monai.losses import DiceCELoss, DiceFocalLoss, DiceLoss
from torch import Tensor, nn

from qcanet_monai.errors import ModelError

LOSSES = ("dice", "cross_entropy", "dice_cross_entropy", "dice_focal")


class CrossEntropy(nn.Module):
    """Voxel-wise cross-entropy of softmax logits against a class map."""

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Mean over voxels; logits (B, C, Z, Y, X), classes (B, 1, Z, Y, X)."""
        return nn.functional.cross_entropy(logits, classes[:, 0].long())


def build_loss(name: str) -> nn.Module:
    """Loss by name.

    ``dice`` is the paper's: L = 1 - 2 sum(y g) / (sum(y**2) + sum(g**2)) per volume and class, mean over
    both, y the softmax (Tokuoka et al. 2020, Methods). The compound ones sum the Dice over the batch, for
    a patch without any nucleus makes its own Dice a constant. The focal term of ``dice_focal`` takes each
    class's logit through a sigmoid of its own, as MONAI's does.

    Raises
    ------
    ModelError
        If the name is unknown.
    """
    shared = {"softmax": True, "to_onehot_y": True, "squared_pred": True}
    makers: dict[str, Callable[[], nn.Module]] = {
        "dice": lambda: DiceLoss(**shared, smooth_nr=0.0, smooth_dr=1e-8),
        "cross_entropy": CrossEntropy,
        "dice_cross_entropy": lambda: DiceCELoss(**shared, batch=True),
        "dice_focal": lambda: DiceFocalLoss(**shared, batch=True, gamma=2.0),
    }
    if name not in makers:
        raise ModelError(f"expected a loss of {', '.join(LOSSES)}, got {name!r}")
    return makers[name]()
