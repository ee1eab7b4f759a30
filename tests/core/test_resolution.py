"""The resolution is the voxel size before interpolation."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from qcanet_monai.core.resample import resample
from qcanet_monai.core.resolution import resolution_um

NOISE = np.random.default_rng(3).normal(100, 10, (20, 80, 80))


@pytest.mark.parametrize("zoom", [1.0, 1.25, 1.5, 2.5, 4.0])
@pytest.mark.parametrize("light", [0, 300])
def test_interpolated_voxels_are_seen_through(zoom, light):
    """Also with a blob of light that varies slowly."""
    z, y, x = np.indices(NOISE.shape)
    image = NOISE + light * np.exp(-((y - 40) ** 2 + (x - 40) ** 2 + (z - 10) ** 2) / 150)
    shape = tuple(round(n * zoom) for n in image.shape)
    found = resolution_um(resample(image, shape), (2.0 / zoom, 0.8 / zoom, 0.8 / zoom))
    assert found == pytest.approx(0.8, rel=0.15)


def test_blur_without_noise_is_the_resolution():
    blurred = ndi.gaussian_filter(NOISE, 2)
    assert 2 < resolution_um(blurred, (1, 1, 1)) < 6


@pytest.mark.parametrize("shape", [(1, 5, 5), (4, 9, 9), (1, 1, 40), (3, 30, 2)])
def test_an_image_too_small_or_constant_has_its_voxels(shape):
    assert resolution_um(np.full(shape, 7, np.uint16), (1, 0.5, 0.5)) == 0.5
    assert resolution_um(NOISE[: shape[0], : shape[1], : shape[2]], (1, 0.5, 0.5)) >= 0.5
