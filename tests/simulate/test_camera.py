"""From light to counts: the noise has the moments that theory gives it."""

import numpy as np
import pytest
from scipy import stats

from qcanet_monai.simulate.camera import CameraSettings, record

SHAPE = (40, 50, 50)


def counts_of(light, seed=0, **settings):
    image = record(np.full(SHAPE, light, np.float32), CameraSettings(**settings), np.random.default_rng(seed))
    assert image.dtype == np.uint16
    assert image.shape == SHAPE
    return image.astype(float)


@pytest.mark.parametrize(("kind", "excess"), [("emccd", 2.0), ("linear", 1.0)])
def test_shot_noise_has_the_cameras_variance(kind, excess):
    counts = counts_of(2.0, kind=kind, photons=20.0, dark=3.0, gain=7.0, offset=50.0, read_noise=6.0)
    photons = 2 * 20.0 + 3.0
    assert counts.mean() == pytest.approx(50 + 7 * photons, rel=0.005)
    assert counts.var() == pytest.approx(excess * 7**2 * photons + 6**2, rel=0.03)


def test_without_any_photon_the_counts_are_offset_and_read_noise():
    counts = counts_of(0.0, dark=0.0, offset=95.0, read_noise=3.0)
    assert counts.mean() == pytest.approx(95, abs=0.05)
    assert counts.std() == pytest.approx(np.hypot(3, 1 / np.sqrt(12)), rel=0.01)  # and rounding


def test_the_background_of_the_default_camera_is_skewed_by_bright_specks():
    counts = counts_of(0.0)
    # moments of a Gamma variate of a Poisson number n: variance 2n, third moment 6n
    n, gain, read_noise = 0.5, 22, 3
    skewness = 6 * n * gain**3 / (2 * n * gain**2 + read_noise**2) ** 1.5
    assert stats.skew(counts.ravel()) == pytest.approx(skewness, rel=0.05)
    assert 2.3 < skewness < 3.2
    assert 50 < np.percentile(counts, 99) - np.median(counts) < 110
    assert np.median(counts) == pytest.approx(97, abs=2)


def test_a_linear_camera_has_no_such_specks():
    emccd, linear = (stats.skew(counts_of(0.0, kind=kind).ravel()) for kind in ("emccd", "linear"))
    assert linear < 0.6 * emccd


def test_voxels_of_a_nucleus_of_15_photons_vary_by_36_percent():
    signal = counts_of(1.0, photons=14.5) - 95
    assert signal.std() / signal.mean() == pytest.approx(0.365, abs=0.01)


def test_noise_of_neighbouring_voxels_is_uncorrelated_unless_smoothed():
    def correlation(**settings):
        counts = counts_of(1.0, **settings)
        return np.corrcoef(counts[..., 1:].ravel(), counts[..., :-1].ravel())[0, 1]

    assert abs(correlation()) < 0.02
    assert correlation(smoothing=0.8) > 0.4


def test_counts_stop_at_the_converters_range():
    assert counts_of(1.0, photons=10_000.0, bits=12).max() == 4095
    assert counts_of(1.0, photons=10_000.0).max() == 65_535
    assert counts_of(0.0, offset=0.0, dark=0.0).min() == 0


def test_the_same_seed_records_the_same_counts():
    assert np.array_equal(counts_of(1.0, seed=4), counts_of(1.0, seed=4))
    assert not np.array_equal(counts_of(1.0, seed=4), counts_of(1.0, seed=5))


def test_drawn_cameras_span_both_kinds_and_the_published_values():
    drawn = [CameraSettings.draw(np.random.default_rng(seed)) for seed in range(200)]
    multiplying = [c for c in drawn if c.kind == "emccd"]
    assert 90 < len(multiplying) < 150
    for published, values in (
        (22.0, [c.gain for c in multiplying]),
        (95.0, [c.offset for c in drawn]),
        (0.5, [c.dark for c in drawn]),
        (12.0, [c.photons for c in multiplying]),
    ):
        assert min(values) < 0.6 * published
        assert max(values) > 1.6 * published
