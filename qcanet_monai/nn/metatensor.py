"""Volumes as MONAI's MetaTensors, the voxel size kept in the affine."""

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
    """(Z, Y, X) -> MetaTensor (1, Z, Y, X) whose affine carries the spacing (z, y, x) in µm.

    `isotropic_spacing_um` is the edge of the voxels of the network's input, if it is known.
    """
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    contiguous = np.ascontiguousarray(array[None])
    meta = {"filename_or_obj": source} | (
        {} if isotropic_spacing_um is None else {"isotropic_spacing_um": isotropic_spacing_um}
    )
    return MetaTensor(torch.from_numpy(contiguous), affine=affine, meta=meta)


def with_values(image: MetaTensor, values: torch.Tensor) -> MetaTensor:
    """Other values on the grid of `image`, with its metadata."""
    meta = {key: value for key, value in image.meta.items() if key != "affine"}
    return MetaTensor(values, affine=image.affine, meta=meta)


def spacing_of(image: MetaTensor) -> Spacing:
    """Voxel size (z, y, x) in µm that a MetaTensor's affine carries."""
    z, y, x = (float(image.affine[i, i]) for i in range(3))
    return z, y, x
