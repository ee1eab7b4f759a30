"""Outlines of nuclei at a fraction of their light."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError

OUTLINES = {"annotator": 0.33, "half": 0.5, "tight": 0.65}
"""Fractions of light by name; people draw near a third of the way from background to the middle."""

_AROUND_UM = (2.0, 6.0)  # distance from a nucleus of the voxels that give its background
_MIDDLE = 0.1  # fraction of a nucleus's voxels, the deepest, that give its full light
_LOGITS = np.linspace(-4, 4, 33)  # outlines that are compared, by the log odds of the probability
_LEAST = 15  # voxels on an outline, below which it is left out


def outline_fraction(outline: str | float) -> float:
    """Return the fraction of light of an outline's name or number.

    Raises
    ------
    InputError
        If the name is unknown or the number is not between 0 and 1.
    """
    if isinstance(outline, str) and outline in OUTLINES:
        return OUTLINES[outline]
    try:
        fraction = float(outline)
    except ValueError:
        fraction = math.nan
    if not 0 < fraction < 1:
        raise InputError(
            f"expected an outline of {', '.join(OUTLINES)}, or a fraction of light between 0 and 1, got "
            f"{outline!r}"
        )
    return fraction


def outline_threshold(
    probability: NDArray[np.floating],
    labels: NDArray[np.integer],
    image: NDArray[np.generic],
    *,
    spacing: Spacing,
    fraction: float,
) -> float:
    """Return the probability at which nuclei end at a fraction of their light.

    The light of a nucleus rises from 0 around it (median of the voxels 2 to 6 µm away) to 1 in its middle
    (mean of the deepest tenth of its voxels). It is averaged along outlines of equal probability, over all
    nuclei of the image, so that noise hardly matters.

    Parameters
    ----------
    probability
        Nuclear probability (Z, Y, X).
    labels
        Nuclei at a probability of 0.5 (Z, Y, X).
    image
        Intensities (Z, Y, X).
    spacing
        Voxel size (z, y, x) in µm.
    fraction
        Fraction of the light.

    Returns
    -------
    float
        Probability, from 0.018 to 0.982; 0.5 if the image has too few voxels to tell.
    """
    limited = np.clip(probability, 1e-6, 1 - 1e-6)
    logit = np.log(limited) - np.log1p(-limited)
    bins = np.rint((logit - _LOGITS[0]) / (_LOGITS[1] - _LOGITS[0])).astype(int)
    bins[bins >= len(_LOGITS)] = -1
    levels = light_at(bins, len(_LOGITS), labels, image, spacing=spacing)
    known = ~np.isnan(levels)
    if not known.any():
        return 0.5
    found = np.interp(fraction, np.maximum.accumulate(levels[known]), _LOGITS[known])
    return float(1 / (1 + np.exp(-found)))


def light_at(
    classes: NDArray[np.integer],
    count: int,
    labels: NDArray[np.integer],
    image: NDArray[np.generic],
    *,
    spacing: Spacing,
) -> NDArray[np.float64]:
    """Return the mean light of each class of voxels, NaN for fewer than 15 voxels.

    Parameters
    ----------
    classes
        Class of each voxel (Z, Y, X), 0 to `count` - 1, or negative for none. Voxels farther than 2 µm from a
        nucleus do not count.
    count
        Number of classes.
    labels, image, spacing
        As for :func:`outline_threshold`.

    Returns
    -------
    ndarray of float64, shape (count,)
        Light, relative to the nearest nucleus: 0 around it, 1 in its middle.
    """
    numbers = np.unique(labels[labels > 0])
    size = (int(labels.max(initial=0)) + 1) * count
    outside, nearest = ndi.distance_transform_edt(labels == 0, sampling=spacing, return_indices=True)
    own = labels[tuple(nearest)]
    seen = (outside < _AROUND_UM[0]) & (classes >= 0)
    keys = own[seen].astype(np.int64) * count + classes[seen]
    voxels = np.bincount(keys, minlength=size).reshape(-1, count)[numbers]
    light = np.bincount(keys, image[seen], minlength=size).reshape(-1, count)[numbers]
    around = np.where((outside > _AROUND_UM[0]) & (outside < _AROUND_UM[1]), own, 0)
    low, high = _ends(image, labels, around, numbers, spacing)
    bright = high > low
    voxels, light, low, high = voxels[bright], light[bright], low[bright, None], high[bright, None]
    levels = np.full(count, np.nan)
    enough = voxels.sum(0) >= _LEAST
    levels[enough] = (light - low * voxels).sum(0)[enough] / ((high - low) * voxels).sum(0)[enough]
    return levels


def _ends(
    image: NDArray[np.generic],
    labels: NDArray[np.integer],
    around: NDArray[np.integer],
    numbers: NDArray[np.integer],
    spacing: Spacing,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the light around and in the middle of each nucleus, shape (n,)."""
    low, high = np.zeros((2, len(numbers)))
    everywhere = image[around > 0].astype(np.float64)
    low[:] = np.median(everywhere) if everywhere.size else float(image.min())
    boxes = ndi.find_objects(labels)
    reach = [math.ceil(_AROUND_UM[1] / step) for step in spacing]
    for place, number in enumerate(numbers):
        box = boxes[number - 1]
        own = labels[box] == number
        depth = ndi.distance_transform_edt(np.pad(own, 1), sampling=spacing)[1:-1, 1:-1, 1:-1][own]
        order = np.argsort(-depth, kind="stable")[: max(1, round(_MIDDLE * len(depth)))]
        high[place] = image[box][own][order].mean(dtype=np.float64)
        wide = tuple(slice(max(s.start - r, 0), s.stop + r) for s, r in zip(box, reach, strict=True))
        beside = image[wide][around[wide] == number].astype(np.float64)
        if beside.size >= _LEAST:
            low[place] = np.median(beside)
    return low, high
