"""Comparison of two networks on images without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io import Volume

_SURE = 0.9  # probability from which a network is sure; below 0.1 it is sure of background
_AXES = (1, 2)  # mirrored: y and x
_LEAST_SURE = 0.9  # below this, an adapted network contradicts the initial one where that one is sure


class Agreement(NamedTuple):
    """Agreement of a network with itself and with another one, from 0 to 1.

    Attributes
    ----------
    mirrored
        Dice overlap of the nuclei in an image and in its mirror images, mean over axes and images.
    sure
        Share of nuclear voxels on which it agrees with the other network where that one is sure: the smaller
        of the share of its own that the other does not rule out, and of the other's sure ones that it has.
    """

    mirrored: float
    sure: float


def is_worse(adapted: Agreement, start: Agreement) -> bool:
    """Return True if an adapted network is less consistent than the initial one."""
    return adapted.mirrored < start.mirrored or adapted.sure < _LEAST_SURE


def agreement(
    network: Predictor, other: Predictor, volumes: Sequence[Volume], edges: tuple[float, float]
) -> Agreement:
    """Compare a network with itself and with another one.

    Parameters
    ----------
    network, other
        Networks of nuclear regions.
    volumes
        Images (Z, Y, X).
    edges
        Edge of the voxels of either network's input in µm.
    """
    mirrored, sure = [], []
    for volume in volumes:
        own, theirs = (
            one(volume.array, spacing=volume.spacing, isotropic_spacing_um=edge)
            for one, edge in zip((network, other), edges, strict=True)
        )
        found = own >= network.threshold
        for axis in _AXES:
            seen = network(
                np.ascontiguousarray(np.flip(volume.array, axis)),
                spacing=volume.spacing,
                isotropic_spacing_um=edges[0],
            )
            mirrored.append(_dice(found, np.flip(seen, axis) >= network.threshold))
        foreground = theirs >= _SURE
        extra = _share(found & (theirs <= 1 - _SURE), found)
        lost = _share(foreground & ~found, foreground)
        sure.append(1 - max(extra, lost))
    return Agreement(float(np.mean(mirrored)), float(np.mean(sure)))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(part)) / max(1, int(np.count_nonzero(whole)))


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    both = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / both if both else 1.0
