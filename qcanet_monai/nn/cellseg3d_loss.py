"""The loss of 3DCellSegNet and the three it is compared with (Wang et al. 2022, Eq. 5 to 7 and Table 4)."""

from __future__ import annotations

from torch import Tensor, nn

from qcanet_monai.errors import ModelError

_FOREGROUND = 2  # after the background and the membrane


class CellSegLoss(nn.Module):
    """Sum over three classes of 1 - (2 sum(q g w) + 1) / (sum(q**2) + sum(g**2) + 1), over the batch.

    Parameters
    ----------
    alpha
        Of q = p / (p + alpha), which takes the place of the foreground's probability p: a cell that is not
        sure of itself gives way to the membrane. For the other classes q = p.
    weights
        Whether the foreground's voxels count with the target's weights; those of the other classes always
        count 1. Weights above 1 let the loss fall below 0.
    regularise
        Whether q takes the place of p. With neither it is the plain Dice loss.

    Raises
    ------
    ModelError
        If alpha is not above 0.
    """

    def __init__(self, alpha: float = 0.1, weights: bool = True, regularise: bool = True) -> None:
        super().__init__()
        if not alpha > 0:
            raise ModelError(f"expected an alpha above 0, got {alpha!r}: the paper's is 0.1")
        self.alpha, self.weights, self.regularise = alpha, weights, regularise

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """One number, in fp32.

        Parameters
        ----------
        logits
            Of background, membrane and foreground (B, 3, Z, Y, X), of any floating type.
        target
            Weight and index of the class (0, 1, 2) (B, 2, Z, Y, X).
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
