"""The rival without learning as something that segments a batch."""

from __future__ import annotations

from typing import Any

from qcanet_monai.core.instances.heuristic import otsu_watershed
from qcanet_monai.io import Volume
from qcanet_monai.segmentation.result import Segmentation, measure


class Otsu:
    """Otsu's threshold and a watershed, in place of a `Segmenter`."""

    n_samples = 0
    counts = False

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume; nuclei have no confidence."""
        instances = otsu_watershed(volume.array, spacing=volume.spacing)
        return Segmentation(instances.labels, measure(instances, spacing=volume.spacing))

    def fingerprint(self) -> list[Any]:
        """Whatever decides on the labels of a volume."""
        return [self.describe()]

    def describe(self) -> dict[str, Any]:
        """Settings, as they go into ``run.json``."""
        return {"method": "Otsu's threshold, watershed from the peaks of the distance", "device": "cpu"}
