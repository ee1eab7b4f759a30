"""Choice of the voxel edge at which the networks read an image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FACTOR = 1.6
"""Ratio of neighbouring voxel edges at which an image is looked at."""

LARGEST_UM = 36.0
"""Diameter above which an object is an embryo rather than a nucleus."""

# chosen on simulated embryos at 0.5 to 4 times their voxels
_GROWN, _WIDER = 1.3, 1.3  # growth of volume and diameter to coarser voxels if nuclei run together
_MUCH = 1.5  # growth of the volume alone
_LEFT = 1 / 3  # share of the volume below which coarser voxels lose nuclei
_RISE = 0.08  # of the confidence, if nuclei that were broken become whole
_ENOUGH, _SURE = 12.0, 0.6  # voxels across and confidence with which no finer look is needed
_ANY = 0.1  # probability from which a voxel counts for the confidence
_BLURRED = 1.25  # resolution over the finest spacing from which voxels count as interpolated
_SHARP, _LEAST = 2 / 3, 7 / 9  # shares of the largest diameter in voxels to which images are resampled
_ACROSS = 10  # resolved voxels across a nucleus from which the resolution is that of interpolated noise


class Look(NamedTuple):
    """Foreground at an edge: nuclear diameter in µm, volume in µm³, confidence."""

    edge_um: float
    diameter_um: float
    volume_um3: float
    confidence: float


class Scale(NamedTuple):
    """Size and certainty of an image's nuclei.

    Attributes
    ----------
    diameter_um
        Nuclear diameter in µm; NaN if not needed or without nuclei.
    resolution_um
        Resolution of the image in µm; 0 if unknown.
    confidence
        Confidence of the look that the diameter comes from.
    change
        Ratio of the diameter to that on voxels `FACTOR` times coarser, at least 1; near 1 it is certain.
    look_um
        Edge in µm of the voxels of that look; finer voxels than these and the image's are not used.
    grid_um
        Edge in µm of the voxels that suit the network; NaN if not chosen.
    """

    diameter_um: float
    resolution_um: float = 0.0
    confidence: float = math.nan
    change: float = math.nan
    look_um: float = 0.0
    grid_um: float = math.nan


def confidence(probability: NDArray[np.floating]) -> float:
    """Return the mean of |2p - 1| where p is at least 0.1, 0 if nowhere.

    A network is most certain at the scale of its training.
    """
    some = probability[probability >= _ANY]
    return float(np.abs(2 * some - 1).mean(dtype=np.float64)) if some.size else 0.0


def surest_look(
    look: Callable[[float], Look], *, finest: float, interpolated: float, coarsest: float
) -> tuple[Look, Look | None]:
    """Climb from a voxel edge to the nearest one where the network is surest.

    The first edge is `FACTOR` times the finest. Coarser edges are tried next. On voxels that are too coarse,
    neighbours and in the end the whole embryo run together, with high confidence; such looks are passed over.
    Finer edges cost more and are tried only if nuclei are small or uncertain.

    Parameters
    ----------
    look
        Predicts at an edge in µm.
    finest, interpolated, coarsest
        Finest edge of the image, finest to which it may be interpolated, and coarsest, in µm. Interpolated
        looks count only if the network is sure, because interpolated noise resembles nuclei.

    Returns
    -------
    Look, Look or None
        The surest look, and the next coarser one if there is one.
    """
    looks = [look(FACTOR * finest)]  # from the finest edge to the coarsest
    best = looks[0]
    while looks[-1].edge_um * FACTOR <= coarsest:
        looks.append(look(looks[-1].edge_um * FACTOR))
        if _better(looks[-1], best) and not _fused(best, looks[-1]) and not _lost(best, looks[-1]):
            best = looks[-1]
        elif _is_sure(best):
            break
    while looks[0].edge_um > min(finest, interpolated) and (
        not _is_sure(best) or (best is looks[0] and best.diameter_um < _ENOUGH * best.edge_um)
    ):
        own, edge = (finest if looks[0].edge_um > finest else interpolated), looks[0].edge_um / FACTOR
        looks.insert(0, look(own if edge < 1.01 * own else edge))
        if _better(looks[0], best) and (looks[0].edge_um >= finest or _is_sure(looks[0])):
            best = looks[0]
        elif _is_sure(best):
            break
    after = looks[looks.index(best) + 1 :]
    return best, after[0] if after else None


def _better(one: Look, other: Look) -> bool:
    return _is_nuclei(one) and (not _is_nuclei(other) or one.confidence > other.confidence)


def _lost(fine: Look, coarse: Look) -> bool:
    return _is_nuclei(fine) and coarse.volume_um3 < _LEFT * fine.volume_um3


def _is_sure(look: Look) -> bool:
    return _is_nuclei(look) and look.confidence >= _SURE


def _is_nuclei(look: Look) -> bool:
    return 0 < look.diameter_um <= LARGEST_UM


def _fused(fine: Look, coarse: Look) -> bool:
    grown = coarse.volume_um3 / max(fine.volume_um3, 1e-9)
    wider = coarse.diameter_um > _WIDER * fine.diameter_um
    broken = coarse.confidence > fine.confidence + _RISE
    return _is_sure(fine) and not broken and (grown > _MUCH or (grown > _GROWN and wider))


def change(one: Look, other: Look | None) -> float:
    """Return the ratio of two looks' diameters, at least 1; infinite without nuclei."""
    smaller, larger = sorted((one.diameter_um, other.diameter_um if other else math.nan))
    return larger / smaller if smaller > 0 and math.isfinite(larger) else math.inf


def voxel_edge(scale: Scale, *, finest: float, across: float) -> float | None:
    """Return the edge in µm of a network's cubic voxels, None for the finest spacing.

    Nuclei become at most `across` voxels wide, the largest of training. Voxels are not finer than the image's
    resolution, as long as nuclei stay two thirds as wide, or seven ninths if the resolution is so coarse that
    it must be blur rather than interpolation. Narrower nuclei are interpolated to that width if the network
    is surer on finer voxels.
    """
    size = scale.diameter_um
    if not size > 0:
        return None
    least = size / (_LEAST * across)
    # hardly coarser voxels would only smooth the noise
    resolution = scale.resolution_um if scale.resolution_um >= _BLURRED * finest else finest
    limit = size / (_SHARP * across) if resolution <= size / _ACROSS else least
    edge = max(finest, size / across, min(resolution, limit))
    if finest > least:
        edge = max(least, min(finest, scale.look_um))
    return None if edge == finest else edge
