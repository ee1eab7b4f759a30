"""What segments a volume: networks, what is made of their outputs, and how sure they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.bundle.models import version_of
from qcanet_monai.core.instances.labelled import Labelled
from qcanet_monai.core.instances.uncertainty import Spread, confidence_radius_um, drop_labels, most_uncertain
from qcanet_monai.core.instances.watershed import Instances, Labels
from qcanet_monai.core.measure.nuclei import Table, label_means, nucleus_table
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io import Volume

Probability = NDArray[np.float32]


@dataclass(frozen=True)
class Segmentation:
    """Labels (Z, Y, X) on the native grid and the table of the nuclei, a row per label.

    `spread` is the foreground probability's standard deviation over dropout passes, if there were any;
    `integral` the number of nuclei by the integral of a density, if there is one.
    """

    labels: Labels
    nuclei: Table
    spread: Probability | None = None
    integral: float | None = None


class Method(Protocol):
    """What segments a batch of volumes; `passes` and `counts` say which columns its tables have more."""

    passes: int
    counts: bool

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume."""

    def fingerprint(self) -> list[Any]:
        """Whatever decides on the labels of a volume."""

    def describe(self) -> dict[str, Any]:
        """Settings, as they go into ``run.json``."""


def measure(
    found: Instances | Labelled, probability: Probability, *, spacing: Spacing, uncertain: bool = False
) -> Table:
    """Table of the nuclei, see ``core.nuclei``, with further columns.

    ``confidence`` is the mean of the ``probability`` (Z, Y, X) over the nucleus's voxels; ``recovered`` is
    1 where it was kept at the border only; ``uncertainty_um`` and ``mask_spread``, if `uncertain`, are NaN
    until they are known.
    """
    nuclei = nucleus_table(found.labels, spacing=spacing)
    nuclei["confidence"] = label_means(found.labels, probability)
    nuclei["recovered"] = np.isin(nuclei["label"], found.recovered).astype(np.int64)
    if uncertain:
        unknown = np.full(len(nuclei["label"]), np.nan)
        nuclei |= {"uncertainty_um": unknown, "mask_spread": unknown.copy()}
    return nuclei


class NetworkMethod(ABC):
    """A method whose labels come from networks; with dropout it tells how sure they are.

    Parameters
    ----------
    passes
        Times that the networks look again, with dropout; none if 0.
    drop_uncertain
        Share of each image's objects, those of the largest radius, that is left out; needs passes.

    Attributes
    ----------
    models : dict of str to Predictor
        The networks by the keyword that names them.
    settings : dict
        The other keywords of which another process makes the same method.

    Raises
    ------
    InputError
        If something is to be dropped without passes, or a number is out of range.
    ModelError
        If passes are asked of a network without dropout.
    """

    models: dict[str, Predictor]
    references: dict[str, str]
    settings: dict[str, Any]
    counts = False

    def __init__(self, passes: int = 0, drop_uncertain: float = 0.0) -> None:
        if passes < 0 or not 0 <= drop_uncertain < 1:
            raise InputError(
                f"expected passes of at least 0 and a share to drop in [0, 1), got {passes}, {drop_uncertain}"
            )
        if drop_uncertain and not passes:
            raise InputError("expected dropout passes to know what is uncertain, got none: give e.g. 100")
        self.passes, self.drop_uncertain = passes, drop_uncertain

    def _own(self, models: dict[str, Predictor], references: dict[str, str]) -> None:
        """Take the networks, which must have dropout where passes are asked for."""
        self.models, self.references = models, references
        for model in models.values() if self.passes else ():
            model.check_dropout()

    @abstractmethod
    def prepare(self, volume: Volume) -> Any:
        """What the networks see of a volume."""

    @abstractmethod
    def look(self, seen: Any, volume: Volume) -> Any:
        """What the networks say to that, on the volume's own grid."""

    @abstractmethod
    def looks(self, seen: Any, volume: Volume) -> Iterator[Any]:
        """What they say with dropout, `passes` times."""

    @abstractmethod
    def label(self, outputs: Any, volume: Volume) -> Labelled:
        """Objects of what the networks said."""

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume."""
        seen = self.prepare(volume)
        found = self.label(self.look(seen, volume), volume)
        table = measure(found, found.foreground, spacing=volume.spacing, uncertain=self.passes > 0)
        integral = found.integral if self.counts else None
        if not self.passes:
            return Segmentation(found.labels, table, integral=integral)
        spread, centres = Spread(), []
        for outputs in self.looks(seen, volume):
            sample = self.label(outputs, volume)
            spread.add(sample.foreground)
            centres.append(sample.centres_um)
        radius = confidence_radius_um(found.centres_um, centres)
        table["uncertainty_um"] = radius
        table["mask_spread"] = label_means(found.labels, spread.sd())
        dropped = most_uncertain(radius, self.drop_uncertain)
        table = {name: column[~dropped] for name, column in table.items()}
        table["label"] = np.arange(1, len(table["label"]) + 1)
        return Segmentation(drop_labels(found.labels, dropped), table, spread.sd(), integral)

    def fingerprint(self) -> list[Any]:
        """Whatever decides on the labels of a volume: settings, and the bundles' files as they are."""
        parts = (Path("configs", "inference.yaml"), Path("models", "model.pt"))
        files = [model.bundle / part for model in self.models.values() for part in parts]
        states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return [self.describe(), self.settings, states]

    def describe(self) -> dict[str, Any]:
        """Settings and model versions, as they go into ``run.json``."""
        models = {
            name: {
                "reference": self.references[name],
                "bundle": str(model.bundle),
                "version": version_of(model.bundle),
                "threshold": model.threshold,
                "smallest_voxels": model.smallest,
                "grid_um": model.grid,
                "diameter_voxels": model.diameter,
                "precision": model.precision,
            }
            for name, model in self.models.items()
        }
        device = str(next(iter(self.models.values())).device)
        uncertainty = {"passes": self.passes, "drop_uncertain": self.drop_uncertain} if self.passes else {}
        return {"device": device, **uncertainty, "models": models}
