"""Reasons to doubt a segmentation: noise, and sizes that no nucleus has."""

from __future__ import annotations

import math

import numpy as np

from qcanet_monai.core.measure.evidence import Evidence
from qcanet_monai.core.measure.nuclei import Table
from qcanet_monai.core.scale import LARGEST_UM, Scale

# chosen on simulated volumes and fields of noise: noise stays below both, nuclei exceed one
_CONTRAST, _SIGNAL_TO_NOISE = 2.9, 9.0
_CONFIDENCE = 0.55  # of the look at an image; nuclei have 0.59 and more
_UNLIKE = 1.6  # ratio of the objects' diameter to the foreground's, which is near 1 for nuclei
_FILLED = 0.6  # share of the image that objects fill, above which no background is left


def doubts_of(table: Table, shown: Evidence, scale: Scale, *, voxels: int) -> tuple[str, ...]:
    """Return reasons to doubt the objects of an image of so many voxels."""
    if not len(table["label"]):
        return ()
    found = []
    volumes = np.sort(table["volume_um3"].astype(float))
    diameter = _diameter(float(np.median(volumes)))
    # the object of the voxel in the middle: a few specks hardly change it, as in the foreground
    most = _diameter(float(volumes[np.searchsorted(np.cumsum(volumes), volumes.sum() / 2)]))
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
    elif max(most / scale.diameter_um, scale.diameter_um / most) > _UNLIKE:
        found.append(
            f"its objects are {most:.1f} µm wide where the foreground is {scale.diameter_um:.1f} µm "
            "thick: look at the overlay, and compare with other values of --isotropic-spacing-um"
        )
    if scale.confidence < _CONFIDENCE:
        found.append(
            f"the networks are uncertain at every scale (confidence {scale.confidence:.2f}, nuclei of about "
            f"{scale.diameter_um:.1f} µm): compare with other values of --isotropic-spacing-um"
        )
    return tuple(found)


def _diameter(volume: float) -> float:
    return (6 * volume / math.pi) ** (1 / 3)
