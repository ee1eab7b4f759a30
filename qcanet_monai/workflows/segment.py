"""From an image to labelled nuclei: two bundles, a watershed, a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.nuclei import Table, label_means, nucleus_table
from qcanet_monai.core.resample import Shape, Spacing, grid_for, nuclear_diameter_um, resample
from qcanet_monai.core.watershed import Instances, Labels, instances_from_masks
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io import Volume
from qcanet_monai.workflows.models import resolve, version_of

Probability = NDArray[np.float32]


@dataclass(frozen=True)
class Segmentation:
    """Labels (Z, Y, X) on the native grid and the table of the nuclei, a row per label."""

    labels: Labels
    nuclei: Table


class Method(Protocol):
    """What segments a batch of volumes."""

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume."""

    def fingerprint(self) -> list[Any]:
        """Whatever decides on the labels of a volume."""

    def describe(self) -> dict[str, Any]:
        """Settings, as they go into ``run.json``."""


UNSURE = 0.75  # confidence below which most are no nuclei or badly outlined: docs/accuracy.md


def measure(instances: Instances, probability: Probability, *, spacing: Spacing) -> Table:
    """Table of the nuclei, see ``core.nuclei``, with two columns more.

    ``confidence`` is the mean of NSN's ``probability`` (Z, Y, X) over the nucleus's voxels; ``recovered`` is
    1 where it was kept at the border only.
    """
    nuclei = nucleus_table(instances.labels, spacing=spacing)
    nuclei["confidence"] = label_means(instances.labels, probability)
    nuclei["recovered"] = np.isin(nuclei["label"], instances.recovered).astype(np.int64)
    return nuclei


_FIRST = 1.6  # times the finest spacing: a look that tells the nuclei's size; noise does not break them here
_MENDED = 1.5  # times as many voxels at most as on the finest grid; more would be the embryo's glowing body


def _grid(model: Predictor, size_um: float, spacing: Spacing) -> float | None:
    """Edge in µm of a coarser grid on which nuclei of that size are ones that the model knows, or None."""
    if model.grid is not None or model.diameter is None:
        return None
    return grid_for(size_um, spacing=spacing, across=model.diameter)


class Segmenter:
    """NSN and NDN bundles joined by the watershed.

    Parameters
    ----------
    nsn, ndn
        Model references; ``ndn="none"`` takes connected components instead of markers
        (the paper's "QCANet w/o NDN").
    tracking_uri
        MLflow's store, where a reference names a registered version.
    recover_border
        Keep unmarked components that touch the volume's border; the table flags them.
    grid
        Edge in µm of the cubic voxels that the networks see; if None the bundles' own, or else the image's
        finest spacing, coarser where its nuclei are larger than those of the training.
    flips
        Whether both networks average over mirror images along y and x; the bundles' own choice if None.
    precision
        ``auto``, ``bf16``, ``fp16`` or ``fp32``; the bundles' own choice if None.

    Attributes
    ----------
    settings : dict
        The keywords, without the models, of which another process makes the same segmenter.

    Raises
    ------
    ModelError
        If a reference or its weights cannot be used.
    """

    def __init__(
        self,
        nsn: str | Path = "bundled",
        ndn: str | Path = "bundled",
        *,
        recover_border: bool = False,
        grid: float | None = None,
        flips: bool | None = None,
        precision: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        overrides: dict[str, Any] = {"grid": grid, "flips": flips, "precision": precision}
        overrides = {key: value for key, value in overrides.items() if value is not None}
        self.recover_border = recover_border
        self.settings = {"recover_border": recover_border, **overrides}
        self.references = {"nsn": str(nsn), "ndn": str(ndn)}
        self.nsn = Predictor(resolve(nsn, "nsn", tracking_uri), **overrides)
        self.ndn = None
        if str(ndn) != "none":
            self.ndn = Predictor(resolve(ndn, "ndn", tracking_uri), **overrides)

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume."""
        region, centre = self.look(volume)
        mask = self.nsn.mask(region)
        markers = self.ndn.components(centre) if self.ndn and centre is not None else None
        instances = instances_from_masks(
            mask,
            markers,
            spacing=volume.spacing,
            recover_border=self.recover_border,
            image=volume.array,
            smallest_share=self.nsn.smallest_share,
        )
        return Segmentation(instances.labels, measure(instances, region, spacing=volume.spacing))

    def look(self, volume: Volume) -> tuple[Probability, Probability | None]:
        """Probabilities (Z, Y, X) of nuclear regions and, with NDN, of centres.

        Where nuclei are larger than those of its training, NSN looks on a coarser grid than the finest; so
        does NDN, each by its own bundle.
        """
        image, spacing = volume.array, volume.spacing
        shape: Shape = image.shape
        size_um = self._size_um(volume)
        grid = _grid(self.nsn, size_um, spacing)
        seen = self.nsn.prepare(image, spacing=spacing, grid=grid)
        region = resample(self.nsn.look(seen), shape)
        if self.ndn is None:
            return region, None
        own = _grid(self.ndn, size_um, spacing)
        if own != grid or not self.ndn.prepares_as(self.nsn):
            seen = self.ndn.prepare(image, spacing=spacing, grid=own)
        return region, resample(self.ndn.look(seen), shape)

    def _size_um(self, volume: Volume) -> float:
        """Diameter in µm of the nuclei that NSN finds at a first, coarse look; NaN if none."""
        if self.nsn.grid is not None or self.nsn.diameter is None:
            return math.nan
        edge = _FIRST * min(volume.spacing)
        size_um, voxels = self._found(volume, edge)
        grid = _grid(self.nsn, size_um, volume.spacing)
        if grid is None or grid <= edge:
            return size_um
        # so large that the last look would be coarser still: unless a fine one agrees, it is no nucleus
        finest_um, fewer = self._found(volume, min(volume.spacing))
        return size_um if voxels * _FIRST**3 <= _MENDED * fewer else finest_um

    def _found(self, volume: Volume, edge: float) -> tuple[float, int]:
        """Diameter in µm of the nuclei that NSN sees on cubic voxels of that edge, and the voxels in them."""
        seen = self.nsn.prepare(volume.array, spacing=volume.spacing, grid=edge)
        mask = self.nsn.mask(self.nsn.look(seen))
        return nuclear_diameter_um(mask, spacing=(edge, edge, edge)), int(mask.sum())

    def fingerprint(self) -> list[Any]:
        """Whatever decides on the labels of a volume: settings, and the bundles' files as they are."""
        parts = (Path("configs", "inference.yaml"), Path("models", "model.pt"))
        files = [model.bundle / part for model in (self.nsn, self.ndn) if model for part in parts]
        states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return [self.describe(), self.settings, states]

    def describe(self) -> dict[str, Any]:
        """Settings and model versions, as they go into ``run.json``."""
        models = {"nsn": self.nsn, "ndn": self.ndn}
        return {
            "recover_border": self.recover_border,
            "smallest_share": self.nsn.smallest_share,
            "device": str(self.nsn.device),
            "models": {
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
                if model
                else None
                for name, model in models.items()
            },
        }
