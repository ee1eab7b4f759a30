"""The loss of a network that gives a mask and a density, wherever either is annotated (Ram et al. 2018)."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn

from qcanet_monai.nn.unet import centre_cropped

_EMPTY = 1e-3  # of the voxels: what a batch without nuclei is divided by, and about what one of tissue holds


class JointLoss(nn.Module):
    """Soft Dice + weighted cross-entropy of the mask + L1 of the density, each over what is annotated.

    The Dice is 1 - 2 sum(p t) / (sum(p**2) + sum(t**2)) over the batch, the cross-entropy the mean weighted
    by the target's weights (Ronneberger et al. 2015). The density's error is sum(w |p - t|) over sum(w t)
    and one thousandth of the voxels: to find nothing costs up to 1, and patches without any nucleus do not
    drown those with some. The weight w = 1 + `peak_weight` t keeps the plain error's easiest answer, nothing
    at all, from being the one that is learned.

    Parameters
    ----------
    density_weight, dice_weight
        Factors of the density's error and of the Dice; the cross-entropy has 1.
    peak_weight
        How much more a voxel at a centre weighs in the density's error than one far from any; 0 for plain L1.
    border_weights
        Whether the target's weights count; without them the cross-entropy is a plain mean.
    """

    def __init__(
        self,
        density_weight: float = 1.0,
        border_weights: bool = True,
        dice_weight: float = 1.0,
        peak_weight: float = 20.0,
    ) -> None:
        super().__init__()
        self.density_weight, self.border_weights = density_weight, border_weights
        self.dice_weight, self.peak_weight = dice_weight, peak_weight
        self.dice = DiceLoss(sigmoid=True, squared_pred=True, batch=True)

    def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
        """One number, in fp32.

        Parameters
        ----------
        outputs
            Mask logit and density (B, 2, Z, Y, X), of any floating type.
        target
            Weight of the cross-entropy, mask within 0 to 1, and density (B, 3, Z, Y, X); cropped to its
            centre where it is larger than the outputs. A sample with a NaN in its mask or in its density
            is not annotated with it, and the terms concerned leave it out; 0 where nothing is annotated.
        """
        outputs, target = outputs.float(), centre_cropped(target, outputs).float()
        loss = outputs[:0].sum()  # 0, and has a gradient all the same
        known = _without_nan(target[:, 1])
        if known.any():
            logits, (weights, mask) = outputs[known, 0], target[known, :2].unbind(1)
            loss = loss + self.dice_weight * self.dice(logits[:, None], mask[:, None])
            loss = loss + self._cross_entropy(logits, mask, weights)
        known = _without_nan(target[:, 2])
        if known.any():
            density = target[known, 2]
            weight = 1 + self.peak_weight * density
            missed = (weight * (outputs[known, 1] - density).abs()).sum()
            error = missed / ((weight * density).sum() + _EMPTY * density.numel())
            loss = loss + self.density_weight * error
        return loss

    def _cross_entropy(self, logits: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        if not self.border_weights:
            return nn.functional.binary_cross_entropy_with_logits(logits, mask)
        each = nn.functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
        return (weights * each).sum() / weights.sum().clamp(min=1e-8)  # all may be 0, to leave a patch out


def _without_nan(channel: Tensor) -> Tensor:
    """Samples of a channel (B, Z, Y, X) that hold no NaN, as (B,) bool."""
    return ~channel.isnan().flatten(1).any(1)
