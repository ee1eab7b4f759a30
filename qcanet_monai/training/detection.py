"""Validation metric of NDN: F score of the detected nuclear centres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from torch import Tensor

from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.metrics.detection import RADIUS_UM, centroids_um, detection_scores
from qcanet_monai.nn.metatensor import spacing_of


class DetectionF(Metric):
    """F score of nuclear centres, matched one to one within a radius.

    Pools the counts of all validation volumes. Takes the output of MONAI's evaluators: lists of predicted and
    reference masks (C, Z, Y, X) whose last channel is the foreground. The reference masks are MetaTensors
    that carry the spacing.

    Parameters
    ----------
    radius_um
        Maximum distance of a match, in µm.
    min_size
        Minimum size of a predicted component, in voxels; smaller ones are ignored.
    output_transform, device
        See ignite's ``Metric``.
    """

    _state_dict_all_req_keys = ("_counts",)

    def __init__(self, *, radius_um: float = RADIUS_UM, min_size: int = 1, **kwargs: object) -> None:
        self.radius_um, self.min_size = radius_um, min_size
        super().__init__(**kwargs)

    @reinit__is_reduced
    def reset(self) -> None:
        """Reset the counts."""
        self._counts = torch.zeros(3, dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Add the volumes of one iteration."""
        for predicted, true in zip(*output, strict=True):
            spacing = spacing_of(true)
            found = markers_from_mask(_foreground(predicted), min_size=self.min_size)
            there = markers_from_mask(_foreground(true))
            points = [centroids_um(labels, spacing=spacing) for labels in (there, found)]
            matched = detection_scores(*points, radius_um=self.radius_um).n_matched
            self._counts += torch.tensor([matched, len(points[0]), len(points[1])], device=self._device)

    @sync_all_reduce("_counts")
    def compute(self) -> float:
        """Return 2 TP / (reference + found) over all volumes, or NaN without centres."""
        matched, n_true, n_found = (float(v) for v in self._counts)
        return 2 * matched / (n_true + n_found) if n_true + n_found else float("nan")


def _foreground(mask: Tensor) -> np.ndarray:
    return np.asarray(mask[-1].cpu()) > 0.5
