"""Normalisation of intensities to [0, 1]."""

import numpy as np
import pytest
from monai.transforms import ScaleIntensityRangePercentilesd
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.core.normalise import METHODS, normalise
from qcanet_monai.errors import InputError


def test_min_max_maps_the_extremes_to_0_and_1():
    scaled = normalise(np.array([[[10, 20, 60, 110]]], np.uint16), "min_max")
    assert scaled.dtype == np.float32
    assert_allclose(scaled, [[[0, 0.1, 0.5, 1]]], rtol=1e-6)


def test_robust_maps_its_percentiles_to_0_and_1_and_clips_beyond():
    values = np.arange(1001, dtype=np.uint16).reshape(7, 11, 13)  # percentiles 1 and 99.8: 10 and 998
    scaled = normalise(values)
    assert scaled.dtype == np.float32
    assert_array_equal(scaled.ravel()[:11], 0)
    assert_array_equal(scaled.ravel()[998:], 1)
    assert_allclose(scaled.ravel()[11:998], (np.arange(11, 998) - 10) / 988, atol=1e-6)


def test_a_single_bright_voxel_squashes_the_rest_in_min_max_but_not_in_robust():
    values = np.random.default_rng(0).uniform(100, 200, (10, 20, 20))
    bright = values.copy()
    bright[5, 5, 5] = 60_000
    rest = np.arange(values.size) != np.ravel_multi_index((5, 5, 5), values.shape)
    assert_allclose(normalise(bright).ravel()[rest], normalise(values).ravel()[rest], atol=0.01)
    assert normalise(bright, "min_max").ravel()[rest].max() < 0.01


@pytest.mark.parametrize("size", [50, 10_000, 10_007, 400_001])
@pytest.mark.parametrize("kind", ["noise", "few values", "sorted", "bright end", "constant"])
def test_percentiles_are_numpys(size, kind):
    rng = np.random.default_rng(0)
    values = {
        "noise": rng.normal(size=size),
        "few values": rng.integers(0, 3, size),
        "sorted": np.sort(rng.gamma(0.5, size=size)),
        "bright end": np.where(np.arange(size) % 31 == 0, 9.0, rng.random(size)),  # all that a sample sees
        "constant": np.ones(size),
    }[kind].astype(np.float32)
    low, high = np.percentile(values, (1.0, 99.8)).astype(np.float64)
    low, high = (low, high) if low < high else (values.min(), values.max())
    expected = np.zeros_like(values)
    if low < high:
        expected = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    assert_array_equal(normalise(values, "robust"), expected)


def test_robust_equals_monai_on_random_values():
    values = np.random.default_rng(1).gamma(2.0, 50.0, (1, 9, 20, 21)).astype(np.float32)
    monai = ScaleIntensityRangePercentilesd("image", lower=1, upper=99.8, b_min=0, b_max=1, clip=True)
    assert_allclose(normalise(values), np.asarray(monai({"image": values})["image"]), atol=2e-5)


def bent(share):
    return np.arcsinh(10 * np.asarray(share)) / np.arcsinh(10)


def test_soft_maps_its_percentiles_to_0_and_1_and_bends_what_lies_between():
    values = np.arange(1, 1002, dtype=np.uint16).reshape(7, 11, 13)  # percentiles 1 and 99.8: 11 and 999
    scaled = normalise(values, "soft").ravel()
    assert scaled.dtype == np.float32
    assert_array_equal(scaled[:11], 0)
    assert scaled[998] == pytest.approx(1)
    assert_allclose(scaled[11:], bent((np.arange(11, 1001) - 10) / 988), atol=1e-6)
    assert np.all(np.diff(scaled[10:]) > 0)


def test_soft_leaves_out_the_zeros_around_a_field():
    field = np.random.default_rng(2).integers(180, 400, (10, 20, 20))
    padded = np.pad(field, ((0, 0), (3, 3), (3, 3)))
    scaled = normalise(padded, "soft")
    assert_array_equal(scaled[:, 3:-3, 3:-3], normalise(field, "soft"))
    scaled[:, 3:-3, 3:-3] = 0
    assert not scaled.any()


def test_soft_takes_zeros_for_the_ground_where_most_voxels_are():
    values = np.zeros((10, 20, 20))
    values[4:8, 4:14, 4:14] = np.random.default_rng(3).uniform(50, 100, (4, 10, 10))
    assert normalise(values, "soft")[values > 0].min() > 0.5


def test_soft_goes_on_above_1_until_one_and_a_half():
    top = np.sinh(1.5 * np.arcsinh(10)) / 10  # 4.5 times the range
    values = np.linspace(0, 1, 1_000_001, dtype=np.float32)
    low, high = np.percentile(values, [1, 99.8])
    values[-3:] = low + np.array([2.0, 0.99 * top, 1.01 * top]) * (high - low)
    assert_allclose(normalise(values, "soft")[-3:], [bent(2), bent(0.99 * top), 1.5], atol=1e-4)
    assert normalise(values, "soft").max() == 1.5


def nuclei_of(*brightness):
    """Cubes (2 % of the volume each) of given brightness on a background of 100."""
    values = np.full((10, 30, 50), 100, np.float32)
    for i, value in enumerate(brightness):
        values[2:8, 10:20, 5 * i : 5 * i + 5] += value
    return values


def test_soft_keeps_a_nucleus_a_tenth_as_bright_at_a_third():
    dim = np.s_[2:8, 10:20, 5:10]
    values = nuclei_of(1000, 100)
    assert_allclose(normalise(values, "soft")[dim], np.arcsinh(1) / np.arcsinh(10), atol=1e-5)
    assert 0.29 < normalise(values, "soft")[dim].mean() < 0.3
    assert_allclose(normalise(values)[dim], 0.1, atol=1e-5)


@pytest.mark.parametrize("bright", [np.s_[5:6, 2:3, 40:41], np.s_[4:7, 2:5, 40:43]], ids=["voxel", "nucleus"])
def test_a_voxel_or_small_nucleus_ten_times_as_bright_changes_soft_little_and_min_max_much(bright):
    def change(method):
        plain = nuclei_of(200, 300, 400) + np.random.default_rng(0).normal(0, 5, (10, 30, 50))
        changed = plain.copy()
        changed[bright] = 100 + 4000
        rest = np.ones(plain.shape, bool)
        rest[bright] = False
        return np.abs(normalise(changed, method) - normalise(plain, method))[rest].max()

    assert change("soft") < 0.02
    assert change("min_max") > 0.8


def test_soft_keeps_nuclei_too_rare_for_its_percentiles():
    values = np.zeros((20, 20, 20), np.uint16)
    values[4, 4, 4:8] = [50, 100, 150, 200]
    assert_allclose(normalise(values, "soft")[4, 4, 3:9], bent([0, 0.25, 0.5, 0.75, 1, 0]), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0, 7, 65_535])
def test_a_constant_image_becomes_zeros(method, value):
    scaled = normalise(np.full((2, 3, 4), value, np.uint16), method)
    assert scaled.dtype == np.float32
    assert_array_equal(scaled, np.zeros((2, 3, 4)))


def test_robust_keeps_nuclei_too_rare_for_its_percentiles():
    values = np.zeros((20, 20, 20), np.uint16)
    values[4, 4, 4:8] = [50, 100, 150, 200]
    assert_allclose(normalise(values)[4, 4, 3:9], [0, 0.25, 0.5, 0.75, 1, 0])


def test_standard_values_have_mean_0_and_deviation_1_and_no_ends():
    scaled = normalise(np.array([[[2, 4, 4, 4, 5, 5, 7, 9]]], np.uint16), "standard")  # mean 5, deviation 2
    assert scaled.dtype == np.float32
    assert_allclose(scaled, [[[-1.5, -0.5, -0.5, -0.5, 0, 0, 1, 2]]], atol=1e-6)
    values = np.random.default_rng(0).normal(40_000, 10, (20, 30, 40)).astype(np.float32)
    values[0, 0, 0] = 50_000
    scaled = normalise(values, "standard").astype(np.float64)
    assert scaled.mean() == pytest.approx(0, abs=1e-3)
    assert scaled.std() == pytest.approx(1, abs=1e-5)
    assert scaled.max() > 100


def test_standard_knows_neither_scale_nor_offset():
    values = np.random.default_rng(1).uniform(0, 1, (3, 4, 5))
    assert_allclose(normalise(7 * values + 3, "standard"), normalise(values, "standard"), atol=1e-5)


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"robust, min_max, soft, standard, got 'z_score'"):
        normalise(np.zeros((1, 1, 1)), "z_score")
