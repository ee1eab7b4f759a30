"""Volumes as MONAI MetaTensors, with the voxel size in the affine."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

Spacing = tuple[float, float, float]


def as_metatensor(
    array: NDArray[Any], spacing: Spacing, source: str = "", *, isotropic_spacing_um: float | None = None
) -> MetaTensor:
    """Convert a volume (Z, Y, X) to a MetaTensor (1, Z, Y, X) with its spacing.

    `spacing` (z, y, x) and `isotropic_spacing_um`, the voxel edge of the network's input if known, are in µm.
    """
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    contiguous = np.ascontiguousarray(array[None])
    meta = {"filename_or_obj": source} | (
        {} if isotropic_spacing_um is None else {"isotropic_spacing_um": isotropic_spacing_um}
    )
    return MetaTensor(torch.from_numpy(contiguous), affine=affine, meta=meta)


def with_values(image: MetaTensor, values: torch.Tensor) -> MetaTensor:
    """Return new values on the grid of `image`, with its metadata."""
    meta = {key: value for key, value in image.meta.items() if key != "affine"}
    return MetaTensor(values, affine=image.affine, meta=meta)


def spacing_of(image: MetaTensor) -> Spacing:
    """Return the voxel size (z, y, x) in µm from a MetaTensor's affine."""
    z, y, x = (float(image.affine[i, i]) for i in range(3))
    return z, y, x
