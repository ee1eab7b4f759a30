"""Grey values of any dtype, offset and padding keep their differences."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.core.grey import grey_values

PICTURE = np.random.default_rng(0).integers(0, 4000, (6, 20, 20))


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int32", "uint32", "int64", "float32", "float64"]
)
def test_plain_images_stay_as_they_are(dtype):
    image = PICTURE.astype(dtype)
    found = grey_values(image)
    assert found.dtype == np.float32
    assert_array_equal(found, image)


@pytest.mark.parametrize(
    ("dtype", "offset"),
    [
        ("int32", 2**31 - 4001), ("int32", -(2**31)), ("uint32", 2**32 - 4001), ("int64", -(2**62)),
        ("int64", 2**62), ("uint64", 2**63),
    ],
)  # fmt: skip
def test_an_offset_goes_before_float32_comes(dtype, offset):
    image = np.array([offset], dtype) + PICTURE.astype(dtype)
    assert_array_equal(grey_values(image), PICTURE - PICTURE.min())


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 1e6), (1e-60, 0), (1e60, 0), (1e300, 0), (1e-42, 0)])
def test_floats_of_any_scale_keep_their_differences(scale, offset):
    found = grey_values(PICTURE * scale + offset)
    assert np.isfinite(found).all()
    rank = np.corrcoef(found.ravel().astype(float), PICTURE.ravel())[0, 1]
    assert rank > 0.99999


def test_the_whole_range_of_int64_does_not_overflow():
    image = np.array([np.iinfo(np.int64).min, 0, np.iinfo(np.int64).max]).reshape(1, 1, 3)
    assert_allclose(grey_values(image).ravel(), [0, 2.0**63, 2.0**64])


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (np.s_[:, :3], 65_535),  # a border
        (np.s_[2], 65_535),  # a plane
        (np.s_[:, :3], -30_000),
    ],
)
def test_padding_becomes_background(where, value):
    image = PICTURE + 100
    image[where] = value
    found = grey_values(image)
    inside = np.ones(image.shape, bool)
    inside[where] = False
    assert_array_equal(found[inside], image[inside])
    assert np.unique(found[~inside]).tolist() == [np.median(image[inside])]


def test_saturated_nuclei_and_hot_pixels_are_no_padding():
    image = np.clip(PICTURE, 0, 3000)
    image[3, 10, 10] = 65_535
    assert_array_equal(grey_values(image), image)
    nucleus = np.where(PICTURE > 3900, 4000, 100 + PICTURE % 10)
    nucleus[0, 0, 0] = nucleus[-1, -1, -1] = nucleus[0, 0, -1] = nucleus[0, -1, 0] = 105
    nucleus[-1, 0, 0] = nucleus[-1, 0, -1] = nucleus[-1, -1, 0] = nucleus[0, -1, -1] = 105
    assert_array_equal(grey_values(nucleus), nucleus)
    dark = np.where(PICTURE > 3900, PICTURE, 0)  # mostly empty
    assert_array_equal(grey_values(dark), dark)
