"""Camera noise has the moments of theory."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from qcanet_monai.simulator.camera import record
from qcanet_monai.simulator.parameters import Camera
from qcanet_monai.simulator.settings import shipped

SHAPE = (40, 50, 50)
SILENT = {"kind": "scmos", "dark": 0.0, "read_noise": 0.0}
NOISELESS = {**SILENT, "photons": 1e8, "gain": 1e-5, "offset": 100.0}  # 1000 counts per unit of light


def counts_of(light, seed=0, shape=SHAPE, **settings):
    image = record(np.full(shape, light, np.float32), Camera(**settings), np.random.default_rng(seed))
    assert image.dtype == np.uint16
    assert image.shape == shape
    return image.astype(float)


@pytest.mark.parametrize(
    ("kind", "excess", "read"), [("emccd", 2, 0.9), ("scmos", 1, 0.9), ("counting", 1, 0)]
)
def test_shot_noise_has_the_detectors_variance(kind, excess, read):
    counts = counts_of(2.0, kind=kind, photons=20.0, dark=3.0, gain=7.0, offset=50.0, read_noise=0.9)
    photons = 2 * 20.0 + 3.0
    assert counts.mean() == pytest.approx(7 * photons + (0 if kind == "counting" else 50), rel=0.005)
    assert counts.var() == pytest.approx(7**2 * (excess * photons + read**2), rel=0.03)


@pytest.mark.parametrize("kind", ["emccd", "scmos"])
def test_without_any_photon_the_counts_are_offset_and_read_noise_in_photons(kind):
    counts = counts_of(0.0, kind=kind, dark=0.0, offset=95.0, gain=20.0, read_noise=0.15)
    assert counts.mean() == pytest.approx(95, abs=0.05)
    assert counts.std() == pytest.approx(np.hypot(3, 1 / np.sqrt(12)), rel=0.01)  # rounding adds 1/12


def test_a_counting_detector_gives_whole_photons_and_nothing_without_any():
    counts = counts_of(1.0, kind="counting", gain=10.0, offset=95.0, read_noise=0.5)
    assert_array_equal(counts % 10, 0)
    assert stats.poisson.cdf(0, 12.5) < 1e-5
    assert (counts == 50).mean() == pytest.approx(stats.poisson.pmf(5, 12.5), rel=0.1)
    assert not counts_of(0.0, kind="counting", dark=0.0, offset=95.0).any()


def test_the_background_of_the_default_camera_is_skewed_by_bright_specks():
    counts = counts_of(0.0)
    # moments of a Gamma variate of a Poisson number n: variance 2n, third moment 6n
    n, read_noise = 0.5, 0.14
    skewness = 6 * n / (2 * n + read_noise**2) ** 1.5
    assert stats.skew(counts.ravel()) == pytest.approx(skewness, rel=0.05)
    assert 2.3 < skewness < 3.2
    assert 50 < np.percentile(counts, 99) - np.median(counts) < 110
    assert np.median(counts) == pytest.approx(97, abs=2)


def test_a_plain_camera_has_no_such_specks():
    emccd, scmos = (stats.skew(counts_of(0.0, kind=kind).ravel()) for kind in ("emccd", "scmos"))
    assert scmos < 0.6 * emccd


def test_voxels_of_a_nucleus_of_15_photons_vary_by_36_percent():
    signal = counts_of(1.0, photons=14.5) - 95
    assert signal.std() / signal.mean() == pytest.approx(0.365, abs=0.01)


def test_light_below_zero_is_none():
    assert_array_equal(counts_of(-1.0, seed=3), counts_of(-9.0, seed=3))


def test_noise_of_neighbouring_voxels_is_uncorrelated_unless_smoothed():
    def correlation(**settings):
        counts = counts_of(1.0, **settings)
        return np.corrcoef(counts[..., 1:].ravel(), counts[..., :-1].ravel())[0, 1]

    assert abs(correlation()) < 0.02
    assert correlation(smoothing=0.8) > 0.4


def test_smoothing_keeps_the_mean_and_lowers_the_noise():
    rough, smooth = counts_of(1.0), counts_of(1.0, smoothing=1.0)
    assert smooth.mean() == pytest.approx(rough.mean(), rel=0.005)
    # a Gaussian of s voxels leaves 1 / (2 s sqrt(pi)) of the variance along each axis
    assert smooth.var() == pytest.approx(rough.var() * (4 * np.pi) ** -1.5, rel=0.15)


def test_hot_pixels_stand_still_in_all_slices_and_are_as_many_as_asked():
    light = counts_of(0.0, shape=(4, 200, 200), **SILENT, hot_pixels=0.05, offset=95.0, bits=16) - 95
    assert_array_equal(light, np.broadcast_to(light[0], light.shape))
    assert (light[0] > 0).mean() == pytest.approx(0.05, rel=0.1)
    hot = light[0][light[0] > 0]
    assert hot.mean() == pytest.approx(12 * 22, rel=0.1)  # as bright as a nucleus, exponentially distributed
    assert hot.std() == pytest.approx(hot.mean(), rel=0.1)


def test_without_hot_pixels_there_is_none():
    assert_array_equal(counts_of(0.0, **SILENT), 95)


def test_the_pattern_is_the_pixels_own_gain_alike_in_every_slice():
    plain, patterned = (counts_of(1.0, **NOISELESS, pattern=p) - 100 for p in (0.0, 0.1))
    assert plain.std() < 2
    assert_allclose(patterned, np.broadcast_to(patterned[0], SHAPE), atol=3)
    assert patterned[0].mean() == pytest.approx(1000, rel=0.01)
    assert patterned[0].std() / 1000 == pytest.approx(0.1, rel=0.05)


def test_a_pixel_whose_own_gain_falls_below_zero_sees_nothing():
    # strongest pattern: 3 of 10 million pixels lie 5 deviations below 1
    counts = counts_of(1.0, shape=(1, 3000, 3000), **{**NOISELESS, "photons": 10, "gain": 1, "pattern": 0.2})
    assert counts.min() == 100


@pytest.mark.parametrize(("bits", "highest"), [(12, 4095), (16, 65_535)])
def test_counts_stop_at_the_converters_range(bits, highest):
    assert counts_of(1.0, photons=10_000.0, bits=bits).max() == highest
    assert counts_of(0.0, offset=0.0, dark=0.0, bits=bits).min() == 0


@pytest.mark.parametrize("bits", [12, 16])
def test_a_file_saturates_at_its_white(bits):
    light = np.linspace(0, 4, 4001, dtype=np.float32).reshape(1, 1, -1)
    image = record(light, Camera(**NOISELESS, white=2.0, bits=bits), np.random.default_rng(0)).ravel()
    assert_array_equal(image[2010:], 2100)
    assert_allclose(image[:1990], 100 + 1000 * light.ravel()[:1990], atol=2)


def test_a_white_beyond_the_converters_range_changes_nothing():
    camera = {**NOISELESS, "bits": 12}
    assert_array_equal(counts_of(3.5, **camera, white=50.0), counts_of(3.5, **camera))


@pytest.mark.parametrize(("black", "white"), [(0.0, 2.0), (0.5, 1.5), (-0.5, 3.0)])
def test_8_bits_stretch_between_black_and_white(black, white):
    light = np.linspace(0, 4, 401, dtype=np.float32).reshape(1, 1, -1)
    camera = Camera(**NOISELESS, black=black, white=white, bits=8)
    image = record(light, camera, np.random.default_rng(0)).ravel()
    expected = np.clip(255 * (light.ravel() - black) / (white - black), 0, 255)
    assert_allclose(image, expected, atol=1)
    assert image.max() == 255


@pytest.mark.parametrize("black", [-0.5, -0.05, 0.0, 0.12])
def test_8_bits_without_a_white_reach_the_brightest_voxels_and_saturate_no_others(black):
    light = np.linspace(0, 4, 40_000, dtype=np.float32).reshape(1, 200, 200)
    image = record(light, Camera(**NOISELESS, black=black, bits=8), np.random.default_rng(0))
    expected = np.clip(255 * (light - black) / (4 - black), 0, 255)
    assert_allclose(image, expected, atol=1.5)
    assert image.max() == 255
    assert (image == 255).mean() < 0.01


def test_8_bits_of_a_dark_image_are_dark():
    assert not counts_of(0.0, **NOISELESS, bits=8).any()


def test_the_same_seed_records_the_same_counts():
    everything = {"pattern": 0.1, "hot_pixels": 0.01, "smoothing": 0.5}
    assert np.array_equal(counts_of(1.0, seed=4, **everything), counts_of(1.0, seed=4, **everything))
    assert not np.array_equal(counts_of(1.0, seed=4), counts_of(1.0, seed=5))


def test_shipped_cameras_span_all_kinds_and_the_published_values():
    camera = shipped().camera
    assert set(camera["kind"].ends()) == {"emccd", "scmos", "counting"}
    for name, published in (
        ("gain", 22.0),
        ("offset", 95.0),
        ("dark", 0.5),
        ("photons", 12.0),
        ("read_noise", 0.14),
    ):
        assert min(camera[name].ends()) < 0.6 * published
        assert max(camera[name].ends()) > 1.6 * published
