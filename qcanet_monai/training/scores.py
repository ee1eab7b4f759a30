"""Validation metrics of networks whose outputs become label images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from numpy.typing import NDArray
from torch import Tensor

from qcanet_monai.core.metrics.cells import cell_scores
from qcanet_monai.core.metrics.detection import RADIUS_UM, centroids_um, detection_scores
from qcanet_monai.core.metrics.overlap import Overlap, mean_or_nan, overlap_table
from qcanet_monai.core.metrics.scores import dice, seg
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError
from qcanet_monai.nn.metatensor import spacing_of

Ints = NDArray[np.integer]


def _detection_f(_overlap: Overlap, true: Ints, found: Ints, spacing: Spacing) -> float:
    points = [centroids_um(labels, spacing=spacing) for labels in (true, found)]
    return detection_scores(*points, radius_um=RADIUS_UM).f


_SCORES: dict[str, Callable[[Overlap, Ints, Ints, Spacing], float]] = {
    "detection_f": _detection_f,
    "seg": lambda overlap, *_: seg(overlap),
    "cell_jaccard": lambda overlap, *_: mean_or_nan(cell_scores(overlap).jaccard),
    "dice": lambda overlap, *_: dice(overlap),
}


class ObjectScore(Metric):
    """Mean over the validation volumes of a score of label images.

    Volumes with an undefined score do not count. Takes the output of MONAI's evaluators: lists of predicted
    and reference label images (1, Z, Y, X). The reference images are MetaTensors that carry the spacing.

    Parameters
    ----------
    score
        ``detection_f`` (centroids within 3.28 µm), ``seg``, ``cell_jaccard`` or ``dice``; higher is better.
    output_transform, device
        See ignite's ``Metric``.

    Raises
    ------
    InputError
        If the score is unknown.
    """

    _state_dict_all_req_keys = ("_sums",)

    def __init__(self, *, score: str, **kwargs: object) -> None:
        if score not in _SCORES:
            raise InputError(f"expected a score of {', '.join(_SCORES)}, got {score!r}")
        self.score = _SCORES[score]
        super().__init__(**kwargs)

    @reinit__is_reduced
    def reset(self) -> None:
        """Reset the sums."""
        self._sums = torch.zeros(2, dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Add the volumes of one iteration."""
        for predicted, label in zip(*output, strict=True):
            found, true = (np.asarray(image[0].cpu()).astype(np.int32) for image in (predicted, label))
            value = self.score(overlap_table(true, found), true, found, spacing_of(label))
            if not math.isnan(value):
                self._sums += torch.tensor([value, 1.0], dtype=torch.float64, device=self._device)

    @sync_all_reduce("_sums")
    def compute(self) -> float:
        """Return the mean, or NaN if the score is undefined in every volume."""
        total, count = (float(v) for v in self._sums)
        return total / count if count else math.nan
