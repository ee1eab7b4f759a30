"""Loss of 3DCellSegNet and its variants (Wang et al. 2022, Eq. 5-7, Table 4)."""

from __future__ import annotations

from torch import Tensor, nn

from qcanet_monai.errors import ModelError

_FOREGROUND = 2  # class index; 0 is background, 1 is membrane


class CellSegLoss(nn.Module):
    """Regularised Dice loss with voxel weights for three classes.

    The loss sums ``1 - (2 sum(q g w) + 1) / (sum(q**2) + sum(g**2) + 1)`` over the classes, with sums over
    the batch. Here q is the softmax probability p, regularised for the foreground (see `alpha`); g is the
    class mask of the target, and w the voxel weight.

    Parameters
    ----------
    alpha
        Regularisation of the foreground, q = p / (p + alpha): uncertain foreground yields to the membrane.
        For the other classes q = p.
    weights
        Apply the target's weights to the foreground; the other classes have weight 1. Weights above 1 can
        make the loss negative.
    regularise
        Use q instead of p. Without `weights` and `regularise`, the loss is the plain Dice loss.

    Raises
    ------
    ModelError
        If `alpha` is not above 0.
    """

    def __init__(self, alpha: float = 0.1, weights: bool = True, regularise: bool = True) -> None:
        super().__init__()
        if not alpha > 0:
            raise ModelError(f"expected an alpha above 0, got {alpha!r}: try the paper's 0.1")
        self.alpha, self.weights, self.regularise = alpha, weights, regularise

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Map logits (B, 3, Z, Y, X) and a target (B, 2, Z, Y, X) to a scalar fp32 loss.

        Logits: background, membrane, foreground. Target channels: voxel weight, class index (0, 1 or 2).
        """
        probabilities = logits.float().softmax(1)
        weight, classes = target.unbind(1)
        loss = probabilities.new_zeros(())
        for index, p in enumerate(probabilities.unbind(1)):
            truth = (classes == index).float()
            foreground = index == _FOREGROUND
            q = p / (p + self.alpha) if foreground and self.regularise else p
            common = q * truth * weight.float() if foreground and self.weights else q * truth
            loss = loss + 1 - (2 * common.sum() + 1) / (q.square().sum() + truth.sum() + 1)
        return loss
