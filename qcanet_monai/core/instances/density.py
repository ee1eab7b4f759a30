"""Density maps of nuclear centres, whose integral is the number of nuclei."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from qcanet_monai.core.instances.instances import Instances
from qcanet_monai.core.instances.uncertainty import drop_labels
from qcanet_monai.core.instances.watershed import instances_from_masks
from qcanet_monai.core.metrics.detection import centroids_um
from qcanet_monai.core.resample import Shape, Spacing
from qcanet_monai.errors import InputError

Points = NDArray[np.float64]

_REACH = 4.0  # sigma at which a Gaussian is truncated, a loss of 2e-4 of its integral
_FLOOR = 1e-3  # neighbours are clipped to this fraction of the peak before the logarithm


def density_map(
    centres_um: NDArray[np.floating], shape: Shape, *, spacing: Spacing, sigma_um: float = 1.0
) -> NDArray[np.float32]:
    """Sum a Gaussian of height 1 at each centre, as float32.

    Detection networks regress this density (Ram et al. 2018, section 2.2). Centres are not rounded to voxels.
    Gaussians are truncated at 4 sigma along each axis.

    Parameters
    ----------
    centres_um
        Centres (n, 3), (z, y, x) in µm from the centre of the first voxel; may lie outside the volume.
    shape
        Shape (Z, Y, X) of the density.
    spacing
        Voxel size (z, y, x) in µm.
    sigma_um
        Standard deviation in µm, along each axis.

    Raises
    ------
    InputError
        If sigma is not positive and finite.
    """
    _check(sigma_um)
    density = np.zeros(shape, np.float32)
    for centre in np.asarray(centres_um, float).reshape(-1, 3):
        window, profiles = [], []
        for place, step, n in zip(centre, spacing, shape, strict=True):
            first = max(0, math.ceil((place - _REACH * sigma_um) / step))
            stop = max(first, min(n, math.floor((place + _REACH * sigma_um) / step) + 1))
            window.append(slice(first, stop))
            profiles.append(np.exp(-0.5 * ((np.arange(first, stop) * step - place) / sigma_um) ** 2))
        along_z, along_y, along_x = profiles
        density[tuple(window)] += along_z[:, None, None] * along_y[:, None] * along_x
    return density


def gaussian_voxels(spacing: Spacing, sigma_um: float) -> float:
    """Return the voxel sum of a unit Gaussian, (2 pi)^1.5 sigma^3 / voxel volume."""
    _check(sigma_um)
    return (2 * math.pi) ** 1.5 * sigma_um**3 / math.prod(spacing)


def count(density: NDArray[np.floating], *, spacing: Spacing, sigma_um: float) -> float:
    """Count the nuclei in a density, or in part of one, by its integral.

    Ram et al. (2018), section 2. The count is accurate to 0.1 % if sigma is at least 0.7 of the longest voxel
    edge, and to 4 % at half of that edge.

    Parameters
    ----------
    density
        Density of any shape, made of Gaussians of height 1.
    spacing
        Voxel size (z, y, x) in µm.
    sigma_um
        Standard deviation of the Gaussians in µm.
    """
    return float(density.sum(dtype=np.float64)) / gaussian_voxels(spacing, sigma_um)


def density_peaks(
    density: NDArray[np.floating], *, spacing: Spacing, threshold: float = 0.2, min_distance_um: float = 3.0
) -> Points:
    """Locate nuclear centres at the peaks of a density.

    A peak is a voxel at or above the threshold that none of its 26 neighbours exceeds; equal adjacent voxels
    form one peak at their mean position. Other peaks are refined to subvoxel positions along each axis by a
    parabola through the logarithms of the voxel and its two neighbours, which is exact for a Gaussian. Of two
    peaks closer than `min_distance_um`, the lower is dropped.

    Parameters
    ----------
    density
        Density (Z, Y, X).
    spacing
        Voxel size (z, y, x) in µm.
    threshold
        Minimum height of a peak, above 0.
    min_distance_um
        Minimum distance between peaks in µm.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Centres (z, y, x) in µm from the centre of the first voxel, highest first.

    Raises
    ------
    InputError
        If the density is not 3-D or the threshold is not above 0.
    """
    if density.ndim != 3 or not threshold > 0:
        raise InputError(
            "expected a density (Z, Y, X) and a threshold above 0, "
            f"got shape {density.shape} and {threshold}: give one channel and e.g. 0.2"
        )
    peaks = (density >= threshold) & (density == ndi.maximum_filter(density, size=3, mode="nearest"))
    # adjacent maxima are equal and form one peak
    flats, n_flats = ndi.label(peaks, np.ones((3, 3, 3)))
    voxels = np.argwhere(peaks)
    flat = flats[peaks] - 1
    size = np.bincount(flat, minlength=n_flats)
    places = np.stack([np.bincount(flat, axis, n_flats) / size for axis in voxels.T], axis=1)
    heights = np.bincount(flat, density[peaks], n_flats) / size
    lone = size[flat] == 1
    places[flat[lone]] += _offsets(density, voxels[lone])
    return _thinned(places[np.argsort(-heights, kind="stable")] * spacing, min_distance_um)


def _offsets(density: NDArray[np.floating], voxels: NDArray[np.int64]) -> Points:
    """Return subvoxel offsets (n, 3) of peaks from their voxels."""
    offsets = np.zeros(voxels.shape)
    middle = density[tuple(voxels.T)].astype(float)
    for axis, n in enumerate(density.shape):
        sides = []
        for step in (-1, 1):
            beside = voxels.copy()
            # mirrored at the volume's border, so that the peak stays in its voxel
            mirrored = np.abs(n - 1 - np.abs(n - 1 - (voxels[:, axis] + step)))
            beside[:, axis] = np.minimum(mirrored, n - 1)
            sides.append(np.log(np.maximum(density[tuple(beside.T)] / middle, _FLOOR)))
        below, above = sides  # logarithms relative to the middle voxel, at most 0
        bend = -(below + above)
        offsets[:, axis] = np.divide(above - below, 2 * bend, out=np.zeros(len(bend)), where=bend > 0)
    return offsets


def _thinned(points: Points, min_distance_um: float) -> Points:
    """Drop each point that is too close to a kept point before it."""
    kept = np.ones(len(points), bool)
    near = cKDTree(points).sparse_distance_matrix(cKDTree(points), min_distance_um, output_type="ndarray")
    near = near[(near["i"] < near["j"]) & (near["v"] < min_distance_um)]
    for first, second in sorted(zip(near["i"].tolist(), near["j"].tolist(), strict=True)):
        kept[second] &= not kept[first]
    return points[kept]


def labels_from_density(
    outputs: NDArray[np.float32],
    *,
    image: NDArray[np.generic] | None = None,  # noqa: ARG001
    spacing: Spacing,
    threshold: float = 0.5,
    min_peak: float = 0.2,
    min_distance_um: float = 3.0,
    min_size: int = 1,
    sigma_um: float = 1.0,
    recover_border: bool = False,
) -> Instances:
    """Segment nuclei by a watershed from density peaks (Ram et al. 2018).

    A peak outside the mask marks the nearest mask voxel within `min_distance_um`. The peak is dropped if
    there is no such voxel, or if another peak already marks the voxel. Without any marker, the labels are the
    connected components of the mask.

    Parameters
    ----------
    outputs
        Nuclear probability and centre density, (2, Z, Y, X).
    image
        Unused; all postprocessing functions accept it.
    spacing
        Voxel size (z, y, x) in µm.
    threshold
        Minimum probability of mask voxels.
    min_peak
        Minimum height of a density peak, above 0.
    min_distance_um
        Minimum distance between peaks in µm.
    min_size
        Minimum label size in voxels; smaller labels are dropped as noise.
    sigma_um
        Standard deviation in µm of the Gaussians in the density, used to count nuclei.
    recover_border
        Keep components without a peak that touch the volume's border.

    Returns
    -------
    Instances
        The centre of a label is its peak, or its centroid if it has no peak.

    Raises
    ------
    InputError
        If the outputs are not two channels of a volume, or `min_peak` is not above 0.
    """
    if outputs.ndim != 4 or len(outputs) != 2:
        raise InputError(f"expected two outputs, (2, Z, Y, X), got {outputs.shape}: use a joint network")
    probability, density = outputs
    mask = probability >= threshold
    peaks = density_peaks(density, spacing=spacing, threshold=min_peak, min_distance_um=min_distance_um)
    voxels, peaks = _marked(mask, peaks, spacing, min_distance_um)
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(voxels.T)] = np.arange(1, len(voxels) + 1)
    labels, recovered, *_ = instances_from_masks(
        mask, markers, spacing=spacing, recover_border=recover_border
    )
    centres = centroids_um(labels, spacing=spacing)
    centres[labels[tuple(voxels.T)].astype(int) - 1] = peaks
    large = np.bincount(labels.ravel(), minlength=1)[1:] >= min_size
    if not large.all():
        labels, centres = drop_labels(labels, ~large), centres[large]
        recovered = np.cumsum(large, dtype=np.int64)[recovered[large[recovered - 1]] - 1]
    integral = count(density, spacing=spacing, sigma_um=sigma_um)
    return Instances(labels, recovered, probability.astype(np.float32, copy=False), centres, integral)


def _marked(
    mask: NDArray[np.bool_], peaks: Points, spacing: Spacing, within_um: float
) -> tuple[NDArray[np.int64], Points]:
    """Return distinct mask voxels (n, 3) and the peaks that mark them."""
    voxels = np.rint(peaks / spacing).astype(np.int64).clip(0, np.array(mask.shape) - 1)
    found = mask[tuple(voxels.T)]
    inside = found.copy()
    reach = np.array(within_um) / spacing
    for number in np.flatnonzero(~inside):
        middle = peaks[number] / spacing
        low = np.ceil(middle - reach).astype(int).clip(0)
        high = np.floor(middle + reach).astype(int) + 1
        near = np.argwhere(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]) + low
        distance = np.linalg.norm(near * spacing - peaks[number], axis=1)
        if distance.min(initial=np.inf) <= within_um:
            found[number] = True
            voxels[number] = near[distance.argmin()]
    order = np.concatenate([np.flatnonzero(inside), np.flatnonzero(found & ~inside)])
    flat = np.ravel_multi_index(tuple(voxels[order].T), mask.shape)
    order = order[np.sort(np.unique(flat, return_index=True)[1])]
    return voxels[order], peaks[order]


def _check(sigma_um: float) -> None:
    if not 0 < sigma_um < math.inf:
        raise InputError(f"expected a positive, finite sigma in µm, got {sigma_um}: give e.g. 1.0")
