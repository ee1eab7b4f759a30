"""Smooth noise in a volume, as fast at any scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.simulator.parameters import Spacing

_FINER = 1.25  # nodes of white noise per length of the noise
_REACH = 3.0  # standard deviations that a node's weight reaches


def smooth_noise(
    shape: tuple[int, int, int], scale_um: float, rng: np.random.Generator, *, spacing: Spacing
) -> NDArray[np.float32]:
    """Gaussian noise (Z, Y, X), float32, of mean 0 and variance 1 in every voxel.

    White noise on a lattice is weighted by Gaussians of standard deviation `scale_um`, axis by axis; each
    voxel's weights have a sum of squares of 1. The correlation falls to exp(-1/4) at `scale_um`, or, where
    that is far below a voxel, at once.

    Parameters
    ----------
    shape
        Voxels (Z, Y, X).
    scale_um
        Standard deviation of the weights in µm.
    rng
        Source of the noise.
    spacing
        Voxel size (z, y, x) in µm.
    """
    weights = [_weights(n, step, scale_um) for n, step in zip(shape, spacing, strict=True)]
    nodes = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for weight in weights:
        nodes = np.moveaxis(np.tensordot(weight, nodes, (1, 0)), 0, -1)
    return np.ascontiguousarray(nodes)


def _weights(count: int, step: float, scale: float) -> NDArray[np.float32]:
    """Weights (voxels, nodes) along one axis."""
    apart = max(scale / _FINER, step)  # where the noise is finer than the voxels, each has a node of its own
    beyond = np.ceil(_REACH * scale / apart)
    places = np.arange(count) * step
    nodes = np.arange(-beyond, np.ceil(places[-1] / apart) + beyond + 1) * apart
    weights = np.exp(-0.5 * ((places[:, None] - nodes) / scale) ** 2)
    return (weights / np.sqrt((weights**2).sum(1, keepdims=True))).astype(np.float32)
