"""Estimate of the nuclear size in a volume, from looks on coarse and fine voxels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qcanet_monai.core.resample import nuclear_diameter_um
from qcanet_monai.core.resolution import resolution_um
from qcanet_monai.core.scale import FACTOR, Look, Scale, change, confidence, surest_look, voxel_edge
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io import Volume

NO_SCALE = Scale(math.nan)
_ACROSS = 8  # voxels across the longest side, below which an embryo is not looked at
_FINEST_UM = 0.5  # voxels to which coarse images are interpolated, at the finest
_SMALL = 2e6  # voxels to which any image may be interpolated; larger ones by one step of the looks


class Looks:
    """Predictions of a network at voxel edges; those on the finest spacing are kept."""

    def __init__(self, predictor: Predictor, volume: Volume) -> None:
        self.predictor, self.volume = predictor, volume
        self.finest = min(volume.spacing)
        self._kept: NDArray[np.float32] | None = None

    def __call__(self, edge: float) -> Look:
        """Predict on cubic voxels of an edge in µm."""
        predictor, volume = self.predictor, self.volume
        inputs = predictor.preprocess(volume.array, spacing=volume.spacing, isotropic_spacing_um=edge)
        outputs = predictor.predict(inputs)
        if math.isclose(edge, self.finest):
            self._kept = outputs
        mask = predictor.mask(outputs[-1])
        diameter = nuclear_diameter_um(mask, spacing=(edge, edge, edge))
        return Look(edge, diameter, int(mask.sum()) * edge**3, confidence(outputs[-1]))

    def outputs(self, predictor: Predictor, inputs: Tensor) -> NDArray[np.float32] | None:
        """Return the kept outputs (C, Z, Y, X) if they are those of these inputs."""
        if predictor is not self.predictor or self._kept is None:
            return None
        return self._kept if self._kept.shape[1:] == inputs.shape[2:] else None


def scale_from(looks: Looks) -> Scale:
    """Estimate resolution, and the nuclear diameter where the network is surest."""
    volume = looks.volume
    sides = [n * s for n, s in zip(volume.array.shape, volume.spacing, strict=True)]
    resolution = resolution_um(volume.array, volume.spacing)
    field = math.prod(sides)
    most = max(_SMALL, field / (looks.finest / FACTOR) ** 3)
    look, coarser = surest_look(
        looks,
        finest=looks.finest,
        interpolated=max(_FINEST_UM, (field / most) ** (1 / 3)),
        coarsest=max(FACTOR * looks.finest, max(sides) / _ACROSS),
    )
    found = Scale(look.diameter_um, resolution, look.confidence, change(look, coarser), look_um=look.edge_um)
    assert looks.predictor.max_diameter_voxels is not None
    edge = voxel_edge(found, finest=looks.finest, across=looks.predictor.max_diameter_voxels)
    return found._replace(grid_um=looks.finest if edge is None else edge)
