"""Choice of the scale at which nuclei are as large as those of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

FACTOR = 1.6
"""Ratio of neighbouring voxel edges at which an image is looked at."""

_AGREE = 1.12  # diameters at neighbouring edges of one nucleus differ less; below and above they drift
LARGEST_UM = 36.0
"""Diameter above which an object is an embryo rather than a nucleus."""
_FUSED_VOLUME, _FUSED_DIAMETER = 2.5, 1.6  # growth to the next coarser voxels when neighbours run together
_SPECK = 4.0  # diameter in voxels below which an object may be noise
GROWN = 1.5
"""Largest ratio of foregrounds at neighbouring edges; a glowing embryo body exceeds it."""


class Look(NamedTuple):
    """Foreground at one voxel edge: nuclear diameter in µm and volume in µm³."""

    edge_um: float
    diameter_um: float
    volume_um3: float


class Scale(NamedTuple):
    """Nuclear diameter in µm, NaN if not needed or without nuclei.

    `change` is the ratio of the diameters at two neighbouring voxel edges; near 1 the diameter is certain.
    `stable` is False if no two edges agree.
    """

    diameter_um: float
    change: float = math.nan
    stable: bool = True


def stable_look(looks: Sequence[Look]) -> int | None:
    """Return the finest look at which the diameter does not depend on the scale.

    On voxels that are too fine for the network, nuclei break up and the diameter grows with the edge. On
    voxels that are too coarse, neighbours and in the end the whole embryo run together. In between, the
    diameters at neighbouring edges agree.

    Parameters
    ----------
    looks
        From the finest edge to the coarsest.

    Returns
    -------
    int or None
        Index of the look; None if no two neighbours agree.
    """
    for index in range(len(looks) - 1):
        one, other = looks[index], looks[index + 1]
        if index > 0 and _run_together(looks[index - 1], one):
            return None
        if one.diameter_um <= LARGEST_UM and change(one, other) < _AGREE:
            return index
    return None


def _run_together(fine: Look, coarse: Look) -> bool:
    """Return True if objects, not specks of noise, seem to fuse on coarser voxels."""
    grown = coarse.volume_um3 > _FUSED_VOLUME * fine.volume_um3
    larger = coarse.diameter_um > _FUSED_DIAMETER * fine.diameter_um
    return grown and larger and fine.diameter_um > _SPECK * fine.edge_um


def change(one: Look, other: Look) -> float:
    """Return the ratio of two looks' diameters, at least 1; infinite without nuclei."""
    smaller, larger = sorted((one.diameter_um, other.diameter_um))
    return larger / smaller if smaller > 0 and math.isfinite(larger) else math.inf
