"""The losses a study chooses from, by name.

Those of `CLASS_LOSSES` take logits (B, C, Z, Y, X) and a class map (B, 1, Z, Y, X); the others take the
targets of their networks, see `JointLoss` and `CellSegLoss`.
"""

from __future__ import annotations

from collections.abc import Callable

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
    """Voxel-wise cross-entropy of softmax logits, or of one channel's sigmoid, against a class map."""

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Mean over voxels; logits (B, C, Z, Y, X), classes (B, 1, Z, Y, X)."""
        if logits.shape[1] == 1:
            return nn.functional.binary_cross_entropy_with_logits(logits, classes.to(logits.dtype))
        return nn.functional.cross_entropy(logits, classes[:, 0].long())


class _OneChannel(nn.Module):
    """A loss of logits of one channel; MONAI's take their classes as floating-point numbers only."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        found: Tensor = self.loss(logits.float(), classes.float())
        return found


def build_loss(name: str, *, sigmoid: bool = False, focal_weight: float | None = None) -> nn.Module:
    """Loss by name.

    ``dice`` is the paper's: L = 1 - 2 sum(y g) / (sum(y**2) + sum(g**2)) per volume and class, mean over
    both, y the softmax (Tokuoka et al. 2020, Methods), or with ``sigmoid`` that of the only channel. The
    compound ones sum the Dice over the batch, for a patch without any nucleus makes its own Dice a constant.
    The focal term of ``dice_focal`` takes each class's logit through a sigmoid of its own, as MONAI's does.

    ``joint`` is that of a mask and a density (Ram et al. 2018). ``cellseg3d`` is that of three classes (Wang
    et al. 2022); the three after it, of their Table 4, lack its weights, its p / (p + alpha), or both.

    Parameters
    ----------
    name
        One of `LOSSES`.
    sigmoid
        Read by `CLASS_LOSSES`: whether the logits have one channel, else a softmax takes them.
    focal_weight
        Read by ``dice_focal``: focal_weight * focal + (1 - focal_weight) * Dice; their plain sum if None.

    Raises
    ------
    ModelError
        If the name is unknown, or the focal_weight is not within 0 to 1.
    """
    if focal_weight is not None and not 0 <= focal_weight <= 1:
        raise ModelError(f"expected a focal_weight of focal loss and Dice within 0 to 1, got {focal_weight}")
    shares = {} if focal_weight is None else {"lambda_focal": focal_weight, "lambda_dice": 1 - focal_weight}
    shared = {"softmax": not sigmoid, "sigmoid": sigmoid, "to_onehot_y": not sigmoid, "squared_pred": True}
    makers: dict[str, Callable[[], nn.Module]] = {
        "dice": lambda: DiceLoss(**shared, smooth_nr=0.0, smooth_dr=1e-8),
        "cross_entropy": CrossEntropy,
        "dice_cross_entropy": lambda: DiceCELoss(**shared, batch=True),
        "dice_focal": lambda: DiceFocalLoss(**shared, batch=True, gamma=2.0, **shares),
        "joint": JointLoss,
        "cellseg3d": CellSegLoss,
        "cellseg3d_no_weights": lambda: CellSegLoss(weights=False),
        "cellseg3d_weighted_dice": lambda: CellSegLoss(regularise=False),
        "cellseg3d_dice": lambda: CellSegLoss(weights=False, regularise=False),
    }
    if name not in makers:
        raise ModelError(f"expected a loss of {', '.join(LOSSES)}, got {name!r}")
    return _OneChannel(makers[name]()) if sigmoid else makers[name]()
