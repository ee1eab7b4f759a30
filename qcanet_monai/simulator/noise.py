"""Smooth Gaussian noise in a volume, equally fast at any scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.simulator.parameters import Spacing

_FINER = 1.25  # lattice nodes per `scale_um`
_REACH = 3.0  # standard deviations at which a node's weight is cut off


def smooth_noise(
    shape: tuple[int, int, int], scale_um: float, rng: np.random.Generator, *, spacing: Spacing
) -> NDArray[np.float32]:
    """Draw Gaussian noise (Z, Y, X), float32, of mean 0 and variance 1 per voxel.

    White noise on a lattice is smoothed with Gaussian weights, axis by axis. The correlation falls to
    exp(-1/4) at distance `scale_um`; voxels much larger than `scale_um` are uncorrelated.

    Parameters
    ----------
    shape
        Number of voxels (Z, Y, X).
    scale_um
        Standard deviation of the Gaussian weights in µm.
    rng, spacing
        Source of the noise, and voxel size (z, y, x) in µm.
    """
    weights = [_weights(n, step, scale_um) for n, step in zip(shape, spacing, strict=True)]
    nodes = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for weight in weights:
        nodes = np.moveaxis(np.tensordot(weight, nodes, (1, 0)), 0, -1)
    return np.ascontiguousarray(nodes)


def _weights(count: int, step: float, scale: float) -> NDArray[np.float32]:
    """Return the weights (voxels, nodes) along one axis."""
    apart = max(scale / _FINER, step)  # noise finer than the voxels: one node per voxel
    beyond = np.ceil(_REACH * scale / apart)
    places = np.arange(count) * step
    nodes = np.arange(-beyond, np.ceil(places[-1] / apart) + beyond + 1) * apart
    weights = np.exp(-0.5 * ((places[:, None] - nodes) / scale) ** 2)
    return (weights / np.sqrt((weights**2).sum(1, keepdims=True))).astype(np.float32)
