"""Loss of a mask and a density with partial annotations (Ram et al. 2018)."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn

from qcanet_monai.nn.unet import centre_cropped

_EMPTY = 1e-3  # denominator per voxel in a batch without nuclei, close to that of a tissue batch


class JointLoss(nn.Module):
    """Soft Dice and weighted cross-entropy of a mask, plus L1 of a density.

    The Dice term is ``1 - 2 sum(p t) / (sum(p**2) + sum(t**2))`` over the batch. The cross-entropy is the
    mean weighted by the target's weights (Ronneberger et al. 2015). The density term is
    ``sum(w |p - t|) / (sum(w t) + 0.001 n)`` over n voxels, with ``w = 1 + peak_weight * t``. An empty
    prediction costs at most 1, and patches without nuclei do not dominate. With plain L1, the network would
    learn to predict nothing; the weight w prevents this.

    Parameters
    ----------
    density_weight, dice_weight
        Factors of the density and the Dice term; the cross-entropy has factor 1.
    peak_weight
        Additional weight of a voxel at a centre in the density term; 0 for plain L1.
    border_weights
        Use the target's weights; if False, the cross-entropy is a plain mean.
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
        """Map outputs (B, 2, Z, Y, X) and a target (B, 3, Z, Y, X) to a scalar fp32 loss.

        The output channels are the mask logit and the density. The target channels are the cross-entropy
        weight, the mask (0 to 1) and the density; a larger target is centre-cropped. A NaN in the mask or
        density of a sample excludes the sample from that term. Without annotations the loss is 0.
        """
        outputs, target = outputs.float(), centre_cropped(target, outputs).float()
        loss = outputs[:0].sum()  # 0 with a gradient
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
        return (weights * each).sum() / weights.sum().clamp(min=1e-8)  # an excluded patch has weights of 0


def _without_nan(channel: Tensor) -> Tensor:
    """Mark, as bool (B,), the samples of a channel (B, Z, Y, X) without NaN."""
    return ~channel.isnan().flatten(1).any(1)
