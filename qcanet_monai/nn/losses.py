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
    """Voxel-wise cross-entropy of softmax logits, or of one channel's sigmoid, against a class map."""

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Mean over voxels; logits (B, C, Z, Y, X), classes (B, 1, Z, Y, X)."""
        if logits.shape[1] == 1:
            return nn.functional.binary_cross_entropy_with_logits(logits, classes.to(logits.dtype))
        return nn.functional.cross_entropy(logits, classes[:, 0].long())


def build_loss(name: str, *, sigmoid: bool = False) -> nn.Module:
    """Loss by name.

    ``dice`` is the paper's: L = 1 - 2 sum(y g) / (sum(y**2) + sum(g**2)) per volume and class, mean over
    both, y the softmax (Tokuoka et al. 2020, Methods), or with ``sigmoid`` that of the only channel. The
    compound ones sum the Dice over the batch, for a patch without any nucleus makes its own Dice a constant.
    The focal term of ``dice_focal`` takes each class's logit through a sigmoid of its own, as MONAI's does.

    Raises
    ------
    ModelError
        If the name is unknown.
    """
    shared = {"softmax": not sigmoid, "sigmoid": sigmoid, "to_onehot_y": not sigmoid, "squared_pred": True}
    makers: dict[str, Callable[[], nn.Module]] = {
        "dice": lambda: DiceLoss(**shared, smooth_nr=0.0, smooth_dr=1e-8),
        "cross_entropy": CrossEntropy,
        "dice_cross_entropy": lambda: DiceCELoss(**shared, batch=True),
        "dice_focal": lambda: DiceFocalLoss(**shared, batch=True, gamma=2.0),
    }
    if name not in makers:
        raise ModelError(f"expected a loss of {', '.join(LOSSES)}, got {name!r}")
    return makers[name]()
