"""Losses, selected by name.

The losses of `CLASS_LOSSES` take logits (B, C, Z, Y, X) of background and foreground, or of the foreground
alone, and a target (B, 1, Z, Y, X) from 0 to 1: the fraction of a voxel that is foreground. For the targets
of the other losses, see `JointLoss` and `CellSegLoss`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.losses import DiceCELoss, DiceFocalLoss, DiceLoss
from torch import Tensor, nn

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.cellseg3d_loss import CellSegLoss
from qcanet_monai.nn.joint_loss import JointLoss

CLASS_LOSSES = ("dice", "cross_entropy", "dice_cross_entropy", "dice_focal")
LOSSES = (
    *CLASS_LOSSES,
    "joint",
    *("cellseg3d", "cellseg3d_no_weights", "cellseg3d_weighted_dice", "cellseg3d_dice"),
)


class CrossEntropy(nn.Module):
    """Voxel-wise cross-entropy with a target from 0 to 1, which may lie between."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map logits (B, 1 or 2, Z, Y, X), target (B, 1, Z, Y, X) to a mean over voxels."""
        logit = logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]
        return nn.functional.binary_cross_entropy_with_logits(logit.float(), target.float())


class _Fractions(nn.Module):
    """Loss of MONAI with a target from 0 to 1, as the probability of each class."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        target = target.float()
        classes = target if logits.shape[1] == 1 else torch.cat([1 - target, target], 1)
        found: Tensor = self.loss(logits.float(), classes)
        return found


def build_loss(name: str, *, sigmoid: bool = False, focal_weight: float | None = None) -> nn.Module:
    """Build a loss by name.

    ``cross_entropy`` is smallest where the output is the probability of the foreground. Masks at 0.5 then
    have the right volume on average. The others favour overlap, which enlarges what is hardly seen.
    ``dice`` is the QCANet loss (Tokuoka et al. 2020, Methods): L = 1 - 2 sum(y g) / (sum(y**2) + sum(g**2))
    per volume and class, averaged over both. y is the softmax, or the sigmoid of the only channel.
    ``dice_cross_entropy`` and ``dice_focal`` sum the Dice over the batch, because a patch without nuclei has
    a constant Dice. The focal term applies a sigmoid to each class's logit, as in MONAI.

    ``joint`` is `JointLoss` (Ram et al. 2018). ``cellseg3d`` is `CellSegLoss` (Wang et al. 2022). Its three
    variants, from Table 4, omit the weights, p / (p + alpha), or both.

    Parameters
    ----------
    name
        One of `LOSSES`.
    sigmoid
        Apply a sigmoid to one-channel logits, instead of a softmax; used by `CLASS_LOSSES`.
    focal_weight
        Use focal_weight * focal + (1 - focal_weight) * Dice in ``dice_focal``; the plain sum if None.

    Raises
    ------
    ModelError
        If the name is unknown or `focal_weight` is not in [0, 1].
    """
    if focal_weight is not None and not 0 <= focal_weight <= 1:
        raise ModelError(f"expected a focal_weight from 0 to 1, got {focal_weight}")
    shares = {} if focal_weight is None else {"lambda_focal": focal_weight, "lambda_dice": 1 - focal_weight}
    shared = {"softmax": not sigmoid, "sigmoid": sigmoid, "squared_pred": True}
    makers: dict[str, Callable[[], nn.Module]] = {
        "dice": lambda: _Fractions(DiceLoss(**shared, smooth_nr=0.0, smooth_dr=1e-8)),
        "cross_entropy": CrossEntropy,
        "dice_cross_entropy": lambda: _Fractions(DiceCELoss(**shared, batch=True)),
        "dice_focal": lambda: _Fractions(DiceFocalLoss(**shared, batch=True, gamma=2.0, **shares)),
        "joint": JointLoss,
        "cellseg3d": CellSegLoss,
        "cellseg3d_no_weights": lambda: CellSegLoss(weights=False),
        "cellseg3d_weighted_dice": lambda: CellSegLoss(regularise=False),
        "cellseg3d_dice": lambda: CellSegLoss(weights=False, regularise=False),
    }
    if name not in makers:
        raise ModelError(f"expected a loss of {', '.join(LOSSES)}, got {name!r}")
    return makers[name]()
