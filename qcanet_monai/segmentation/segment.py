"""From an image to labelled nuclei: two bundles, a watershed, a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from qcanet_monai.bundle.models import resolve
from qcanet_monai.core.instances.labelled import Labelled
from qcanet_monai.core.instances.watershed import instances_from_masks
from qcanet_monai.core.metrics.detection import centroids_um
from qcanet_monai.core.resample import Shape, Spacing, grid_for, nuclear_diameter_um, resample
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io import Volume
from qcanet_monai.segmentation.method import NetworkMethod, Probability

Seen = tuple[Tensor, Tensor | None]
Outputs = tuple[Probability, Probability | None]

_FIRST = 1.6  # times the finest spacing: a look that tells the nuclei's size; noise does not break them here
_MENDED = 1.5  # times as many voxels at most as on the finest grid; more would be the embryo's glowing body


def _grid(model: Predictor, size_um: float, spacing: Spacing) -> float | None:
    """Edge in µm of a coarser grid on which nuclei of that size are ones that the model knows, or None."""
    if model.grid is not None or model.diameter is None:
        return None
    return grid_for(size_um, spacing=spacing, across=model.diameter)


class Segmenter(NetworkMethod):
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
    passes, drop_uncertain
        See `NetworkMethod`.

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
        passes: int = 0,
        drop_uncertain: float = 0.0,
        tracking_uri: str | None = None,
    ) -> None:
        super().__init__(passes, drop_uncertain)
        overrides: dict[str, Any] = {"grid": grid, "flips": flips, "precision": precision}
        overrides = {key: value for key, value in overrides.items() if value is not None}
        self.recover_border = recover_border
        self.settings = {"recover_border": recover_border, **overrides}
        if passes:
            self.settings |= {"passes": passes, "drop_uncertain": drop_uncertain}
        self.nsn = Predictor(resolve(nsn, "nsn", tracking_uri), **overrides)
        self.ndn = None
        if str(ndn) != "none":
            self.ndn = Predictor(resolve(ndn, "ndn", tracking_uri), **overrides)
        else:
            self.settings["ndn"] = "none"
        models = {"nsn": self.nsn} | ({"ndn": self.ndn} if self.ndn else {})
        self._own(models, {"nsn": str(nsn), "ndn": str(ndn)})

    def prepare(self, volume: Volume) -> Seen:
        """What each network sees of a volume (1, 1, Z, Y, X).

        Where nuclei are larger than those of its training, NSN looks on a coarser grid than the finest; so
        does NDN, each by its own bundle.
        """
        image, spacing = volume.array, volume.spacing
        size_um = self._size_um(volume)
        grid = _grid(self.nsn, size_um, spacing)
        seen = self.nsn.prepare(image, spacing=spacing, grid=grid)
        if self.ndn is None:
            return seen, None
        own = _grid(self.ndn, size_um, spacing)
        if own != grid or not self.ndn.prepares_as(self.nsn):
            return seen, self.ndn.prepare(image, spacing=spacing, grid=own)
        return seen, seen

    def look(self, seen: Seen, volume: Volume) -> Outputs:
        """Probabilities (Z, Y, X) of nuclear regions and, with NDN, of centres."""
        shape: Shape = volume.array.shape
        region = resample(self.nsn.look(seen[0]), shape)
        if self.ndn is None or seen[1] is None:
            return region, None
        return region, resample(self.ndn.look(seen[1]), shape)

    def looks(self, seen: Seen, volume: Volume) -> Iterator[Outputs]:
        """The same with dropout, `passes` times."""
        shape: Shape = volume.array.shape
        regions = self.nsn.sampled(seen[0], self.passes)
        if self.ndn is None or seen[1] is None:
            for region in regions:
                yield resample(region[-1], shape), None
            return
        for region, centre in zip(regions, self.ndn.sampled(seen[1], self.passes), strict=True):
            yield resample(region[-1], shape), resample(centre[-1], shape)

    def label(self, outputs: Outputs, volume: Volume) -> Labelled:
        """Nuclei of the watershed of both."""
        region, centre = outputs
        markers = self.ndn.components(centre) if self.ndn and centre is not None else None
        instances = instances_from_masks(
            self.nsn.mask(region),
            markers,
            spacing=volume.spacing,
            recover_border=self.recover_border,
            image=volume.array,
            smallest_share=self.nsn.smallest_share,
        )
        # only dropout asks where they are
        places = centroids_um(instances.labels, spacing=volume.spacing) if self.passes else np.zeros((0, 3))
        return Labelled(instances.labels, region, places, instances.recovered)

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

    def describe(self) -> dict[str, Any]:
        """Settings and model versions, as they go into ``run.json``."""
        about = super().describe()
        about["models"] = {"nsn": None, "ndn": None} | about["models"]
        return {
            "recover_border": self.recover_border,
            "smallest_share": self.nsn.smallest_share,
            **about,
        }
