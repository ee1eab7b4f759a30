"""Image region to compare with simulations, and prior of the simulations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.errors import InputError
from qcanet_monai.io import Volume
from qcanet_monai.simulator.settings import Shape, Simulation, shipped

_LOOK: Shape = (64, 128, 128)  # maximum shape of the compared region, in voxels
_LEAST: Shape = (6, 32, 32)


def prior_for(ratio: float) -> Simulation:
    """Widen the shipped distributions for images with z/xy voxel size ratio `ratio`.

    The voxel size is drawn too, because an image shows the nuclear size only in voxels.
    """
    sideways = {"uniform": [-35, 35], "probability": 0.5}
    kinds = {"choices": {"embryo": 0.6, "tissue": 0.4}}
    return shipped().changed(
        {
            "view": {
                "lateral_um": {"log_uniform": [0.4, 1.4]},
                "anisotropy": ratio,
                "first": {"uniform": [0.2, 6.6]},
                "last": 0.0,
                "shift_z_um": {"uniform": [-25, 25], "probability": 0.4},
                "shift_y_um": sideways,
                "shift_x_um": sideways,
                "oval": {"always": 1, "probability": 0.15},
            },
            "growth": {"kind": kinds, "diameter_um": {"log_uniform": [8, 18]}},
            "optics": {"attenuation": {"uniform": [-2.5, 2.5]}, "axial_um": {"log_uniform": [0.8, 6.5]}},
        }
    )


def part_of(volume: Volume) -> NDArray[Any]:
    """Return the region of largest contrast, at most 64 x 128 x 128 voxels.

    Raises
    ------
    InputError
        If the image is too small or uniform.
    """
    image = volume.array
    if any(n < least for n, least in zip(image.shape, _LEAST, strict=True)):
        raise InputError(
            f"{volume.source}: expected at least {_LEAST} voxels (z, y, x), got {image.shape}: "
            "give a larger image"
        )
    starts = [
        sorted({*np.linspace(0, max(0, n - most), 3).astype(int)})
        for n, most in zip(image.shape, _LOOK, strict=True)
    ]
    parts = [
        image[z : z + _LOOK[0], y : y + _LOOK[1], x : x + _LOOK[2]]
        for z in starts[0]
        for y in starts[1]
        for x in starts[2]
    ]
    best = max(parts, key=lambda part: float(part.std()))
    if best.max() == best.min():
        raise InputError(f"{volume.source}: expected an image with nuclei, got the same value everywhere")
    return np.ascontiguousarray(best)


def height_over_width(volumes: Sequence[Volume]) -> float:
    """Return the mean z/x voxel size ratio of images, which must agree within 10 %."""
    found = [volume.spacing[0] / volume.spacing[2] for volume in volumes]
    for volume, ratio in zip(volumes, found, strict=True):
        z, y, x = volume.spacing
        if abs(y / x - 1) > 0.05 or not 0.25 <= ratio <= 20:
            raise InputError(
                f"{volume.source}: expected voxels as wide along y as along x and 0.25 to 20 times as high, "
                f"got {z:g} x {y:g} x {x:g} µm: give the right --spacing"
            )
        if abs(ratio / found[0] - 1) > 0.1:
            raise InputError(
                f"{volume.source}: expected the voxel size of {volumes[0].source}, got other proportions: "
                "adapt to images of one microscope at a time"
            )
    return float(np.mean(found))
