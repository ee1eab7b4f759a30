"""Objects in noise have no evidence; nuclei, also dim ones, have."""

import math

import numpy as np
import pytest
from helpers import ball
from numpy.testing import assert_allclose
from scipy import ndimage as ndi

from qcanet_monai.core.measure.evidence import evidence

SHAPE = (30, 60, 60)
RNG = np.random.default_rng(0)
NUCLEUS = ball(SHAPE, (15, 20, 20), 7) * 1 + ball(SHAPE, (15, 44, 44), 7) * 2


def test_contrast_is_in_standard_deviations_of_the_ground():
    noise = RNG.normal(100, 5, SHAPE)
    found = evidence(noise + 10 * (NUCLEUS > 0), NUCLEUS)
    assert found.contrast == pytest.approx(2, abs=0.1)
    voxels = np.count_nonzero(NUCLEUS == 1)
    assert found.signal_to_noise == pytest.approx(2 * math.sqrt(voxels), rel=0.15)


def test_correlated_noise_counts_fewer_voxels():
    smooth = ndi.gaussian_filter(RNG.normal(0, 1, SHAPE), 2)
    image = smooth / smooth.std() + 2 * (NUCLEUS > 0)
    white = RNG.normal(0, 1, SHAPE) + 2 * (NUCLEUS > 0)
    assert evidence(image, NUCLEUS).signal_to_noise < evidence(white, NUCLEUS).signal_to_noise / 4


def test_it_depends_on_neither_offset_nor_scale():
    image = RNG.normal(100, 5, SHAPE) + 10 * (NUCLEUS > 0)
    assert_allclose(evidence(image * 7 - 300, NUCLEUS), evidence(image, NUCLEUS))


@pytest.mark.parametrize("labels", [np.zeros(SHAPE, np.uint16), np.ones(SHAPE, np.uint16)])
def test_without_objects_or_ground_there_is_none(labels):
    assert np.isnan(evidence(RNG.normal(0, 1, SHAPE), labels)).all()
