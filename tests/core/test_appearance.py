"""Appearance of an image: exact numbers for noise, blur, fading and blobs."""

import re
import warnings

import numpy as np
import pytest
from scipy import ndimage as ndi

from qcanet_monai.core.appearance import appearance

SPACING = (2.0, 1.0, 1.0)
MAY_BE_UNKNOWN = re.compile(r"noise_\d|noise_skewness|noise_tail|correlation_along_z_\d")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def blobs(places, sigma, shape=(24, 72, 72)):
    """Draw Gaussian balls of height 1000; sigma in voxels, half of that along z."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    total = np.zeros(shape)
    for cz, cy, cx in places:
        total += np.exp(-(((z - cz) * 2) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return (1000 * total).astype(np.float32)


def lively(rng, shape=(24, 48, 40)):
    """Draw noisy blobs in integer counts, all above 255."""
    image = blobs([(8, 12, 12), (14, 30, 25)], 5.0, shape)
    return (300 + image + rng.gamma(4.0, 20.0, shape)).astype(np.uint16)


def halves(dark, bright, shape=(12, 80, 60)):
    return np.where(np.arange(shape[1])[:, None] < shape[1] // 2, dark, bright)


def test_any_image_has_the_same_names(rng):
    image = lively(rng)
    names = list(appearance(image, spacing=SPACING))
    assert len(names) == len(set(names)) > 80
    for other in (
        image.astype(np.float32),
        (image // 16).astype(np.uint8),
        image[:6, :32, :32],
        np.zeros((6, 32, 32), np.uint16),
        rng.random((40, 33, 90)),
    ):
        assert list(appearance(other, spacing=(0.5, 1.0, 1.0))) == names


def test_other_counts_change_their_place_and_width_alone(rng):
    image = lively(rng)
    before = appearance(image, spacing=SPACING)
    after = appearance(3.0 * image + 100.0, spacing=SPACING)
    changed = {name for name in before if abs(after[name] - before[name]) > 1e-3}
    assert changed == {"level_low", "level_span", "distinct"}  # `distinct` depends on gaps between counts
    assert after["level_span"] == pytest.approx(before["level_span"] + np.log(3), rel=1e-6)
    assert np.expm1(after["level_low"]) == pytest.approx(3 * np.expm1(before["level_low"]) + 100, rel=1e-5)


def test_voxels_of_another_size_look_alike_where_their_proportions_do(rng):
    image = lively(rng)
    looks = appearance(image, spacing=(2.0, 1.0, 1.0))
    assert appearance(image, spacing=(0.5, 0.25, 0.25)) == looks
    flatter = appearance(image, spacing=(1.0, 1.0, 1.0))
    assert {name.split("_")[0] for name in looks if looks[name] != flatter[name]} >= {"band"}


def test_place_and_width_of_the_histogram_are_its_percentiles(rng):
    image = rng.gamma(2.0, 100.0, (8, 36, 40)).astype(np.float32)
    looks = appearance(image, spacing=SPACING)
    low, high = np.percentile(image, (2, 99.8))
    assert looks["level_low"] == pytest.approx(np.log1p(low))
    assert looks["level_span"] == pytest.approx(np.log(high - low))
    assert looks["quantile_2"] == 0
    assert looks["quantile_99.8"] == pytest.approx(1)
    assert looks["quantile_50"] == pytest.approx((np.percentile(image, 50) - low) / (high - low))
    assert looks["maximum"] == pytest.approx(np.log1p((image.max() - low) / (high - low)))


def test_a_files_ends_are_seen(rng):
    image = rng.integers(1, 200, (10, 40, 40)).astype(np.uint16)
    plain = appearance(image, spacing=SPACING)
    assert plain["share_at_zero"] == -6
    assert plain["eight_bits"] == 1
    image[:, :4], image[:, 4:5] = 255, 0  # a tenth of the rows, and a fortieth
    ends = appearance(image, spacing=SPACING)
    assert ends["share_at_top"] == pytest.approx(-1, abs=1e-4)
    assert ends["share_at_zero"] == pytest.approx(np.log10(1 / 40), abs=1e-4)
    assert ends["eight_bits"] == 1
    assert appearance(image + 1, spacing=SPACING)["eight_bits"] == 0


@pytest.mark.parametrize("gap", [1, 16])
def test_gaps_between_counts_are_seen(gap):
    image = gap * np.arange(40 * 40).reshape(40, 40)[None].repeat(8, 0)
    looks = appearance(image, spacing=SPACING)
    assert looks["distinct"] == pytest.approx(np.log(1600 / (1 + gap * 1599)))


def test_noise_gives_its_standard_deviation_by_brightness(rng):
    sd = halves(10.0, 40.0)
    image = halves(500.0, 1500.0) + sd * rng.standard_normal((12, 80, 60))
    looks = appearance(image, spacing=SPACING)
    span = np.exp(looks["level_span"])
    # a voxel minus the mean of four others has 5/4 of the variance
    assert np.exp(looks["noise_0"]) * span == pytest.approx(10 * np.sqrt(1.25), rel=0.03)
    assert np.exp(looks["noise_5"]) * span == pytest.approx(40 * np.sqrt(1.25), rel=0.03)


def test_noise_of_neighbours_is_correlated_only_where_it_was_smoothed(rng):
    noise = rng.standard_normal((16, 64, 64))
    # two voxels apart, the neighbours' means share one voxel: 1/16 of 5/4
    white = appearance(noise, spacing=SPACING)["noise_correlation"]
    assert white == pytest.approx(0.05, abs=0.015)
    smooth = appearance(ndi.gaussian_filter(noise, (0, 1, 1)), spacing=SPACING)["noise_correlation"]
    assert abs(smooth - 0.05) > 0.1


def test_skewed_noise_of_the_background_is_seen(rng):
    shape = (12, 80, 60)
    skewed = appearance(halves(0.0, 1000.0) + rng.exponential(10, shape), spacing=SPACING)
    plain = appearance(halves(100.0, 1000.0) + rng.normal(0, 10, shape), spacing=SPACING)
    assert plain["noise_skewness"] == pytest.approx(0, abs=0.06)
    # third moments (2 per voxel) sum to 1 - 4/64 of that, variances to 5/4
    assert skewed["noise_skewness"] == pytest.approx(np.arcsinh(2 * (1 - 4 / 64) / 1.25**1.5), abs=0.1)
    assert skewed["noise_tail"] > plain["noise_tail"]


@pytest.mark.parametrize(("along_z", "across"), [(0.0, 0.0), (1.0, 2.0), (2.0, 1.5)])
def test_blur_correlates_voxels_as_a_gaussian_does(along_z, across, rng):
    noise = ndi.gaussian_filter(rng.standard_normal((40, 80, 80)), (along_z, across, across), mode="wrap")
    looks = appearance(noise, spacing=SPACING)
    for lag in (1, 2, 4, 8):
        for name, sigma in (("across", across), ("along_z", along_z)):
            expected = np.exp(-(lag**2) / (4 * sigma**2)) if sigma else 0.0
            assert looks[f"correlation_{name}_{lag}"] == pytest.approx(expected, abs=0.06), (name, lag)


def test_lags_beyond_half_the_depth_are_unknown(rng):
    looks = appearance(rng.random((8, 40, 40)), spacing=SPACING)
    known = [np.isfinite(looks[f"correlation_along_z_{lag}"]) for lag in (1, 2, 4, 8)]
    assert known == [True, True, False, False]


def test_layers_are_the_brightness_by_depth(rng):
    fade = np.linspace(1.0, 0.2, 12)[:, None, None]
    image = (fade * rng.uniform(900, 1000, (12, 40, 40))).astype(np.float32)
    looks = appearance(image, spacing=SPACING)
    low, high = np.percentile(image, (2, 99.8))
    means = (image.reshape(6, -1).mean(1) - low) / (high - low)
    assert [looks[f"layer_{i}"] for i in range(6)] == pytest.approx(means, abs=1e-4)
    tops = (np.percentile(image.reshape(6, -1), 99, axis=1) - low) / (high - low)
    assert [looks[f"layer_top_{i}"] for i in range(6)] == pytest.approx(tops, abs=1e-4)
    turned = appearance(image[::-1], spacing=SPACING)
    for name in ("layer", "layer_top"):
        assert [turned[f"{name}_{i}"] for i in range(6)] == [looks[f"{name}_{5 - i}"] for i in range(6)]


def test_rings_are_the_brightness_by_distance_from_the_middle():
    y, x = np.ogrid[-1:1:60j, -1:1:60j]
    image = np.broadcast_to(100 + 1000 * (y**2 + x**2), (8, 60, 60))
    looks = appearance(image, spacing=SPACING)
    rings = [looks[f"ring_{i}"] for i in range(4)]
    assert np.all(np.diff(rings) > 0.05)
    assert [looks[f"ring_top_{i}"] for i in range(4)] == pytest.approx(rings)  # all slices are equal


@pytest.mark.parametrize("n", [2, 4, 9])
def test_peaks_count_the_blobs(n):
    places = [(12, 12 + 24 * (i // 3), 12 + 24 * (i % 3)) for i in range(n)]
    looks = appearance(blobs(places, 3.0), spacing=SPACING)
    for scale in ("2", "2.8", "4"):
        assert np.expm1(looks[f"peaks_{scale}"]) == pytest.approx(n)


def test_the_scale_that_shows_most_grows_with_the_blobs():
    scales = ("0.7", "1", "1.4", "2", "2.8", "4", "5.6", "8")
    best = []
    for sigma in (1.2, 2.5, 5.0):
        looks = appearance(blobs([(12, 36, 36)], sigma), spacing=SPACING)
        best.append(int(np.argmax([looks[f"band_{scale}"] for scale in scales])))
    assert best == sorted(set(best))


def _spike(shape):
    image = np.zeros(shape, np.uint16)
    image[3, 20, 20] = 65_535
    return image


def _bowl(shape):
    y, x = np.ogrid[-1 : 1 : complex(shape[1]), -1 : 1 : complex(shape[2])]
    return np.broadcast_to((1000 * (y**2 + x**2)).astype(np.uint16), shape)


@pytest.mark.parametrize("shape", [(6, 32, 32), (16, 32, 48)])
@pytest.mark.parametrize(
    "make",
    [
        lambda s: np.full(s, 7, np.uint16),
        lambda s: np.zeros(s, np.float32),
        lambda s: np.arange(np.prod(s)).reshape(s) % 2,
        lambda s: np.random.default_rng(0).poisson(0.01, s),
        lambda s: np.random.default_rng(0).normal(-50, 5, s),
        _spike,
        _bowl,
    ],
    ids=["constant", "zero", "stripes", "few photons", "negative", "one voxel", "a bowl without noise"],
)
def test_thin_and_nearly_uniform_images_have_numbers_and_warn_of_nothing(make, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        looks = appearance(make(shape), spacing=(4.0, 1.0, 1.0))
    assert all(isinstance(value, float) for value in looks.values())
    unknown = {name for name, value in looks.items() if not np.isfinite(value)}
    assert all(np.isnan(looks[name]) and MAY_BE_UNKNOWN.fullmatch(name) for name in unknown), unknown
