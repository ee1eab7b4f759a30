"""Validation metrics: detected centres of NDN, and scores of label images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from numpy.typing import NDArray
from skimage.measure import label as connected
from torch import Tensor

from qcanet_monai.core.instances.markers import markers_from_mask, markers_from_probability
from qcanet_monai.core.instances.watershed import instances_from_masks
from qcanet_monai.core.metrics.cells import cell_scores
from qcanet_monai.core.metrics.detection import RADIUS_UM, centroids_um, detection_scores
from qcanet_monai.core.metrics.overlap import Overlap, mean_or_nan, overlap_table
from qcanet_monai.core.metrics.scores import dice, seg
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError
from qcanet_monai.nn.metatensor import spacing_of

Ints = NDArray[np.integer]

REGIONS = (0.35, 0.5, 0.65)
CENTRES = (0.3, 0.5, 0.7)
"""Thresholds of NSN and NDN that `PairSeg` tries."""


def _detection_f(_overlap: Overlap, true: Ints, found: Ints, spacing: Spacing) -> float:
    points = [centroids_um(labels, spacing=spacing) for labels in (true, found)]
    return detection_scores(*points, radius_um=RADIUS_UM).f


_SCORES: dict[str, Callable[[Overlap, Ints, Ints, Spacing], float]] = {
    "detection_f": _detection_f,
    "seg": lambda overlap, *_: seg(overlap),
    "cell_jaccard": lambda overlap, *_: mean_or_nan(cell_scores(overlap).jaccard),
    "dice": lambda overlap, *_: dice(overlap),
}


class _Ratio(Metric):
    """Ratio of two sums over the validation volumes, NaN if the second is 0."""

    _state_dict_all_req_keys = ("_sums",)

    @reinit__is_reduced
    def reset(self) -> None:
        """Reset the sums."""
        self._sums = torch.zeros(2, dtype=torch.float64, device=self._device)

    def _add(self, above: float, below: float) -> None:
        self._sums += torch.tensor([above, below], dtype=torch.float64, device=self._device)

    @sync_all_reduce("_sums")
    def compute(self) -> float:
        """Return the ratio over all volumes."""
        above, below = (float(v) for v in self._sums)
        return above / below if below else math.nan


class PairSeg(Metric):
    """SEG of NSN and NDN after the watershed, at the best of nine thresholds.

    A pair is judged by what it can do: good thresholds differ between trainings, and
    ``evaluation.calibrate`` chooses them once a training has ended. Takes the output of MONAI's evaluators:
    lists of logits (4, Z, Y, X), NSN's then NDN's, and of instance labels (1, Z, Y, X), which are
    MetaTensors that carry the spacing.

    Parameters
    ----------
    output_transform, device
        See ignite's ``Metric``.
    """

    _state_dict_all_req_keys = ("_sums",)

    @reinit__is_reduced
    def reset(self) -> None:
        """Reset the sums: SEG and volumes, by NSN's and NDN's threshold."""
        shape = (len(REGIONS), len(CENTRES), 2)
        self._sums = torch.zeros(shape, dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Add the volumes of one iteration."""
        for logits, label in zip(*output, strict=True):
            true, spacing = np.asarray(label[0].cpu()).astype(np.int32), spacing_of(label)
            scores = torch.as_tensor(logits).float().cpu().unflatten(0, (2, 2)).softmax(1)[:, 1].numpy()
            markers = [markers_from_mask(scores[1] >= threshold) for threshold in CENTRES]
            for i, region in enumerate(REGIONS):
                for j, centres in enumerate(markers):
                    found = instances_from_masks(scores[0] >= region, centres, spacing=spacing).labels
                    value = seg(overlap_table(true, found))
                    if not math.isnan(value):
                        self._sums[i, j] += torch.tensor([value, 1.0], device=self._device)

    @sync_all_reduce("_sums")
    def compute(self) -> float:
        """Return the mean over all volumes at the best thresholds, NaN without nuclei."""
        means = self._sums[..., 0] / self._sums[..., 1]
        return float(means.max())


class DetectionF(_Ratio):
    """F score of nuclear centres of all volumes together, matched within a radius.

    Takes the output of MONAI's evaluators: lists of predicted masks or probabilities, and of reference masks
    or instances (C, Z, Y, X); the last channel counts. The references are MetaTensors with the spacing.

    Parameters
    ----------
    radius_um
        Maximum distance of a match, in µm.
    threshold, min_size
        Minimum probability of a predicted component, and its minimum size in voxels.
    height
        Least descent between two predicted centres, see ``core.instances.markers``; 0 takes components.
    output_transform, device
        See ignite's ``Metric``.
    """

    def __init__(
        self,
        *,
        radius_um: float = RADIUS_UM,
        threshold: float = 0.5,
        min_size: int = 1,
        height: float = 0.0,
        **kwargs: object,
    ) -> None:
        self.radius_um = radius_um
        self.centres = partial(
            markers_from_probability, threshold=threshold, min_size=min_size, height=height
        )
        super().__init__(**kwargs)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Add the volumes of one iteration."""
        for predicted, label in zip(*output, strict=True):
            probability = np.asarray(torch.as_tensor(predicted)[-1].float().cpu())
            found = self.centres(probability)
            true = connected(np.asarray(label[-1].cpu()).astype(np.int32), connectivity=1)
            points = [centroids_um(one, spacing=spacing_of(label)) for one in (true, found)]
            matched = detection_scores(*points, radius_um=self.radius_um).n_matched
            self._add(2 * matched, len(points[0]) + len(points[1]))


class ObjectScore(_Ratio):
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

    def __init__(self, *, score: str, **kwargs: object) -> None:
        if score not in _SCORES:
            raise InputError(f"expected a score of {', '.join(_SCORES)}, got {score!r}")
        self.score = _SCORES[score]
        super().__init__(**kwargs)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Add the volumes of one iteration."""
        for predicted, label in zip(*output, strict=True):
            found, true = (np.asarray(image[0].cpu()).astype(np.int32) for image in (predicted, label))
            value = self.score(overlap_table(true, found), true, found, spacing_of(label))
            if not math.isnan(value):
                self._add(value, 1)
