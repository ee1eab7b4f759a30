"""A bundle that finds its objects alone: one network, and what it names to make labels of its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qcanet_monai.bundle.models import resolve_any
from qcanet_monai.core.crop import undo
from qcanet_monai.core.instances.labelled import Labelled
from qcanet_monai.core.instances.uncertainty import drop_labels
from qcanet_monai.core.metrics.detection import centroids_um
from qcanet_monai.core.resample import Shape, resample, resample_labels
from qcanet_monai.errors import ModelError
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io import Volume
from qcanet_monai.segmentation.method import NetworkMethod
from qcanet_monai.segmentation.segment import Segmenter

Channels = NDArray[np.float32]


class BundleSegmenter(NetworkMethod):
    """One bundle's network and the `labelling` that its ``inference.yaml`` names.

    Parameters
    ----------
    model
        A shipped bundle's name, or a model reference.
    passes, drop_uncertain
        See `NetworkMethod`.
    knobs
        Values for top-level keys of the bundle's configuration.
    tracking_uri
        MLflow's store, where the reference names a registered version.

    Raises
    ------
    ModelError
        If the reference, its weights or a knob cannot be used, or the bundle makes no labels.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        passes: int = 0,
        drop_uncertain: float = 0.0,
        knobs: Mapping[str, Any] | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        super().__init__(passes, drop_uncertain)
        knobs = {key: value for key, value in (knobs or {}).items() if value is not None}
        self.settings = {"passes": passes, "drop_uncertain": drop_uncertain, "knobs": knobs}
        self.predictor = Predictor(resolve_any(model, tracking_uri), **knobs)
        if self.predictor.labelling is None:
            raise ModelError(
                f"expected a bundle that makes labels, {model} gives a probability only: give it as --nsn or "
                "--ndn"
            )
        self._own({"model": self.predictor}, {"model": str(model)})
        self.counts = self.predictor.counts

    def prepare(self, volume: Volume) -> Tensor:
        """What the network sees (1, 1, Z, Y, X)."""
        return self.predictor.prepare(volume.array, spacing=volume.spacing)

    def look(self, seen: Tensor, volume: Volume) -> Channels:
        """The network's outputs (C, Z, Y, X) on the grid on which objects are made of them."""
        return self._native(self.predictor.outputs(seen), volume.array.shape)

    def looks(self, seen: Tensor, volume: Volume) -> Iterator[Channels]:
        """The same with dropout, `passes` times."""
        for outputs in self.predictor.sampled(seen, self.passes):
            yield self._native(outputs, volume.array.shape)

    def label(self, outputs: Channels, volume: Volume) -> Labelled:
        """The bundle's own labelling."""
        assert self.predictor.labelling is not None
        shape: Shape = volume.array.shape
        if not self.predictor.labels_on_grid:
            return self.predictor.labelling(outputs, spacing=volume.spacing)
        z, y, x = (s * n / m for s, n, m in zip(volume.spacing, shape, outputs.shape[1:], strict=True))
        found = self.predictor.labelling(outputs, spacing=(z, y, x))
        labels = resample_labels(found.labels, shape)
        gone = np.bincount(labels.ravel(), minlength=len(found.centres_um) + 1)[1:] == 0  # between the slices
        labels = drop_labels(labels, gone)
        places = centroids_um(labels, spacing=volume.spacing)
        return Labelled(labels, resample(found.foreground, shape), places, integral=found.integral)

    def _native(self, outputs: Channels, shape: Shape) -> Channels:
        if self.predictor.window is not None:  # what lies outside of it was not looked at, and is nothing
            return np.stack([undo(channel, shape) for channel in outputs])
        if outputs.shape[1:] == shape or self.predictor.labels_on_grid:
            return outputs
        return np.stack([resample(channel, shape) for channel in outputs])


def segmenter_of(
    model: str | Path,
    *,
    passes: int = 0,
    drop_uncertain: float = 0.0,
    knobs: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
) -> NetworkMethod:
    """The method that a reference stands for: one network's, or of a qcanet bundle both.

    The parameters are those of `BundleSegmenter`.
    """
    folder = resolve_any(model, tracking_uri)
    if (folder / "nsn").is_dir():  # NSN and NDN inside, as promotion puts them
        made: dict[str, Any] = {key: value for key, value in (knobs or {}).items() if value is not None}
        return Segmenter(folder / "nsn", folder / "ndn", passes=passes, drop_uncertain=drop_uncertain, **made)
    return BundleSegmenter(
        model, passes=passes, drop_uncertain=drop_uncertain, knobs=knobs, tracking_uri=tracking_uri
    )
