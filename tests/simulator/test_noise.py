"""Smooth noise against closed forms."""

import numpy as np
import pytest

from qcanet_monai.simulator.noise import smooth_noise

SHAPE, SPACING = (6, 48, 48), (2.0, 0.5, 0.5)


def drawn(scale_um, seeds=60):
    return np.array(
        [smooth_noise(SHAPE, scale_um, np.random.default_rng(s), spacing=SPACING) for s in range(seeds)]
    )


@pytest.mark.parametrize("scale_um", [0.1, 1.5, 200.0])
def test_every_voxel_has_mean_0_and_variance_1_at_any_scale(scale_um):
    noise = drawn(scale_um)
    assert noise.shape[1:] == SHAPE
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.3
    assert (noise**2).mean() == pytest.approx(1, abs=0.3 if scale_um > 100 else 0.06)


def test_the_correlation_falls_with_the_distance_in_micrometres_as_stated():
    noise = drawn(2.0)
    pairs = {
        2.0: [(noise[:, 1:], noise[:, :-1]), (noise[..., 4:], noise[..., :-4])],
        4.0: [(noise[:, 2:], noise[:, :-2]), (noise[:, :, 8:], noise[:, :, :-8])],
    }
    for distance, both in pairs.items():
        for one, other in both:
            assert (one * other).mean() == pytest.approx(np.exp(-((distance / 2.0) ** 2) / 4), abs=0.05)


def test_noise_of_a_scale_below_a_voxel_is_white_and_far_above_it_even():
    white, even = drawn(0.05, 4), drawn(500.0, 4)
    assert abs((white[..., 1:] * white[..., :-1]).mean()) < 0.02
    assert np.ptp(even, axis=(1, 2, 3)).max() < 0.3
