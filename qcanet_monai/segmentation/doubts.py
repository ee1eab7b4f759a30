"""Reasons to doubt a segmentation: noise, and sizes that no nucleus has."""

from __future__ import annotations

import math

import numpy as np

from qcanet_monai.core.measure.evidence import Evidence
from qcanet_monai.core.measure.nuclei import Table
from qcanet_monai.core.scale import LARGEST_UM

# chosen on simulated volumes and fields of noise: noise stays below both, nuclei exceed one
_CONTRAST, _SIGNAL_TO_NOISE = 3.0, 9.0
_FILLED = 0.6  # share of the image that objects fill, above which no background is left


def doubts_of(table: Table, shown: Evidence, *, voxels: int) -> tuple[str, ...]:
    """Return reasons to doubt the objects of an image of so many voxels."""
    if not len(table["label"]):
        return ()
    found = []
    diameter = (6 * float(np.median(table["volume_um3"].astype(float))) / math.pi) ** (1 / 3)
    filled = float(np.sum(table["n_voxels"])) / voxels
    if diameter > LARGEST_UM or filled > _FILLED:
        found.append(
            f"its objects are {diameter:.0f} µm wide and fill {filled:.0%} of the image, more than nuclei "
            "do: check the voxel size (--spacing), and that nuclei are brighter than the ground (--invert)"
        )
    elif not (shown.contrast >= _CONTRAST or shown.signal_to_noise >= _SIGNAL_TO_NOISE):
        found.append(
            f"its objects hardly differ from the noise around them (contrast {shown.contrast:.1f}, signal to "
            f"noise {shown.signal_to_noise:.1f}): check that it shows nuclei"
        )
    return tuple(found)
