"""Interpolation keeps every voxel centre at its place in space."""

import numpy as np
import pytest
from helpers import ball, distance_transforms
from numpy.testing import assert_allclose, assert_array_equal
from skimage.transform import resize

from qcanet_monai.core import resample as resampling
from qcanet_monai.core.resample import (
    interpolation,
    isotropic_shape,
    nuclear_diameter_um,
    resample,
    resample_labels,
    resample_mask,
)
from qcanet_monai.errors import InputError

SPACING = (1.75, 0.8, 0.8)


def centres_um(shape, spacing):
    axes = [(np.arange(n) + 0.5) * step for n, step in zip(shape, spacing, strict=True)]
    return np.ix_(*axes)


def test_finest_spacing_is_the_isotropic_grid_unless_one_is_given():
    assert isotropic_shape((51, 120, 122), spacing=SPACING) == (112, 120, 122)
    assert isotropic_shape((51, 120, 122), spacing=SPACING, isotropic_spacing_um=1.6) == (56, 60, 61)
    assert isotropic_shape((4, 4, 4), spacing=(1.0, 1.0, 1.0), isotropic_spacing_um=100.0) == (1, 1, 1)


def test_a_shape_of_another_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="zip"):
        isotropic_shape((2, 4, 4, 4), spacing=SPACING)
    with pytest.raises(ValueError, match="zip"):
        resample_labels(np.zeros((4, 4, 4), np.uint16), (4, 4))


@pytest.mark.parametrize("grid", [0.0, -0.8, float("nan"), float("inf")])
def test_a_grid_that_is_no_positive_number_is_refused(grid):
    with pytest.raises(InputError, match="above 0 µm"):
        isotropic_shape((4, 4, 4), spacing=SPACING, isotropic_spacing_um=grid)


@pytest.mark.parametrize("radius_um", [6.0, 8.0, 11.0])
def test_the_diameter_of_a_ball_is_told_on_any_voxels(radius_um):
    for spacing in ((0.5, 0.5, 0.5), (0.5, 0.4, 0.4)):
        shape = tuple(round(26 / s) for s in spacing)
        mask = ball(shape, (13.0, 13.0, 13.0), radius_um, spacing)
        assert nuclear_diameter_um(mask, spacing=spacing) == pytest.approx(2 * radius_um, rel=0.08)


def test_the_diameter_is_eight_times_the_mean_depth_less_half_a_voxel():
    cube = np.zeros((5, 5, 5), bool)
    cube[1:4, 1:4, 1:4] = True  # 26 voxels of depth 1 and one of depth 2
    assert nuclear_diameter_um(cube, spacing=(1.0, 1.0, 1.0)) == pytest.approx(8 * (28 / 27 - 1 / 2))
    both = np.pad(cube, ((0, 0), (0, 0), (0, 3)))
    both[2, 2, -2] = True
    assert nuclear_diameter_um(both, spacing=(1.0, 1.0, 1.0)) == pytest.approx(8 * (29 / 28 - 1 / 2))
    assert nuclear_diameter_um(both, spacing=(3.0, 1.0, 1.0)) == pytest.approx(8 * (31 / 28 - 1 / 2))


def test_depths_are_taken_about_each_nucleus_only(monkeypatch):
    shapes = distance_transforms(monkeypatch)
    mask = np.zeros((9, 20, 30), bool)
    mask[2:5, 4:8, 5:10] = mask[6:9, 0:4, 20:25] = True  # the second is cut by the border
    nuclear_diameter_um(mask, spacing=(1.0, 1.0, 1.0))
    assert shapes == [(5, 6, 7), (4, 5, 7)]


def test_specks_do_not_count_as_nuclei():
    mask = ball((52, 52, 52), (13.0, 13.0, 13.0), 8.0, (0.5, 0.5, 0.5))
    alone = nuclear_diameter_um(mask, spacing=(0.5, 0.5, 0.5))
    specks = mask.copy()
    specks[2::9, 2::9, 2] = True
    assert nuclear_diameter_um(specks, spacing=(0.5, 0.5, 0.5)) == pytest.approx(alone, rel=0.01)


def test_an_empty_mask_has_no_diameter():
    assert np.isnan(nuclear_diameter_um(np.zeros((4, 4, 4), bool), spacing=SPACING))


def test_the_same_shape_gives_the_same_values_as_float32():
    image = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    same = resample(image, (2, 3, 4))
    assert same.dtype == np.float32
    assert_array_equal(same, image)


def test_a_float_image_that_has_its_shape_is_not_copied():
    image = np.ones((2, 3, 4), np.float32)
    assert np.shares_memory(resample(image, (2, 3, 4)), image)


@pytest.mark.parametrize(("old", "new"), [(9, 9), (9, 20), (9, 7), (9, 3), (9, 1)])
def test_interpolation_equals_that_of_scikit_image(old, new):
    values = np.random.default_rng(0).random(old)
    weights = interpolation(old, new)
    assert weights.dtype == np.float32
    expected = resize(values, (new,), order=1, mode="edge", anti_aliasing=new < old)
    assert_allclose(weights @ values, expected, atol=1e-6)


def test_the_axis_that_shrinks_most_is_resampled_first(monkeypatch):
    lengths = []
    monkeypatch.setattr(resampling, "interpolation", lambda *n: lengths.append(n) or interpolation(*n))
    resample(np.zeros((4, 10, 6), np.float32), (8, 5, 3))
    resample(np.zeros((4, 10, 6), np.float32), (8, 2, 6))
    assert lengths == [(10, 5), (6, 3), (4, 8), (10, 2), (4, 8)]


def test_one_thread_resamples_and_blas_has_its_own_again_afterwards(monkeypatch):
    def threads():
        return {library["num_threads"] for library in resampling._BLAS.info()}

    seen = []
    monkeypatch.setattr(resampling, "_resampled", lambda values, _: seen.append(threads()) or values)
    with resampling._BLAS.limit(limits=3):
        before = threads()
        resample(np.zeros((2, 2, 2)), (2, 2, 2))
        assert seen == [{1}]
        assert threads() == before


@pytest.mark.parametrize("shape", [(11, 9, 10), (3, 4, 5), (11, 4, 10)])
def test_a_constant_stays_constant_on_finer_and_coarser_grids(shape):
    assert_allclose(resample(np.full((5, 9, 10), 300, np.uint16), shape), 300, rtol=1e-6)


@pytest.mark.parametrize(("n_new", "margin"), [(28, 2), (9, 0), (5, 1)])
def test_a_ramp_along_z_is_reproduced_at_the_new_voxel_centres(n_new, margin):
    old = np.broadcast_to((np.arange(14) + 0.5)[:, None, None] * 2.0, (14, 4, 4))
    new = resample(old, (n_new, 4, 4))
    wanted = (np.arange(n_new) + 0.5) * 28.0 / n_new
    inner = slice(margin, n_new - margin)
    edge = 0.05 if n_new < 14 else 1e-5  # smoothing before downsampling sees the repeated edge
    assert_allclose(new[inner, 2, 1], wanted[inner], atol=edge if margin else 0.3)


def test_a_smooth_blob_survives_the_way_to_the_isotropic_grid_and_back():
    native = (16, 30, 30)
    middle = [n * s / 2 for n, s in zip(native, SPACING, strict=True)]
    squares = sum((a - c) ** 2 for a, c in zip(centres_um(native, SPACING), middle, strict=True))
    blob = np.exp(-squares / (2 * 5.0**2)).astype(np.float32)
    there = resample(blob, isotropic_shape(native, spacing=SPACING))
    back = resample(there, native)
    assert there.shape == (35, 30, 30)
    assert_allclose(back, blob, atol=0.02)


def test_a_mask_keeps_its_volume_and_place_on_both_ways():
    native = (16, 34, 34)
    mask = ball(native, np.subtract((13.5, 14.0, 13.0), np.divide(SPACING, 2)), 7.0, SPACING)
    isotropic = isotropic_shape(native, spacing=SPACING)
    fine = resample_mask(mask, isotropic)
    back = resample_mask(fine, native)
    exact = 4 / 3 * np.pi * 7.0**3
    assert fine.dtype == bool
    assert_allclose(fine.sum() * 0.8**3, exact, rtol=0.03)
    assert_allclose(back.sum() * np.prod(SPACING), exact, rtol=0.03)
    assert (back & mask).sum() / (back | mask).sum() > 0.95
    centre = np.array([axis.mean() for axis in np.nonzero(fine)]) * 0.8 + 0.4
    assert_allclose(centre, (13.5, 14.0, 13.0), atol=0.1)


def test_a_mask_of_any_foreground_value_is_a_mask_of_truths():
    mask = np.array([[[0, 1, 255, 7]]], np.uint8)
    assert_array_equal(resample_mask(mask, (1, 1, 4)), [[[False, True, True, True]]])
    assert_array_equal(resample_mask(mask, (2, 1, 4)), [[[False, True, True, True]]] * 2)


def test_a_voxel_half_of_which_is_foreground_is_in_the_mask():
    assert_array_equal(resample_mask(np.array([[[1, 0]]]), (1, 1, 3)), [[[True, True, False]]])


def test_stripes_finer_than_the_new_grid_fade_instead_of_aliasing():
    stripes = np.broadcast_to(np.arange(90, dtype=np.float32) % 2, (4, 4, 90))
    coarse = resample(stripes, (4, 4, 30))
    assert_allclose(coarse, 0.5, atol=0.05)


def test_axes_that_become_finer_are_not_smoothed_while_another_becomes_coarser():
    step = np.zeros((6, 4, 20), np.float32)
    step[3:] = 1
    assert_allclose(resample(step, (12, 4, 10)), resample(step, (12, 4, 20))[..., ::2], atol=1e-6)


def test_labels_stay_labels_on_finer_and_coarser_grids():
    row = np.array([[[3, 3, 0, 70_000]]], np.uint32)
    finer = resample_labels(row, (2, 1, 8))
    assert finer.dtype == np.uint32
    assert_array_equal(finer, [[[3, 3, 3, 3, 0, 0, 70_000, 70_000]]] * 2)
    assert_array_equal(resample_labels(finer, (1, 1, 4)), row)
    assert_array_equal(resample_labels(row[..., :3], (1, 1, 1)), [[[3]]])
    assert_array_equal(resample_labels(row, (1, 1, 4)), row)


@pytest.mark.parametrize("shape", [(5, 6, 7), (9, 13, 5), (1, 2, 20), (12, 4, 7)])
def test_each_voxel_gets_the_label_whose_centre_is_nearest_to_its_own(shape):
    labels = np.random.default_rng(0).integers(0, 300, (5, 6, 7)).astype(np.int32)
    found = resample_labels(labels, shape)
    assert found.shape == shape
    places = [
        [np.abs((np.arange(old) + 0.5) / old - (i + 0.5) / new) for i in range(new)]
        for old, new in zip(labels.shape, shape, strict=True)
    ]
    for index in np.ndindex(shape):
        # at equal distance, either is right
        near = [
            np.flatnonzero(axis[i] <= axis[i].min() + 1e-9) for axis, i in zip(places, index, strict=True)
        ]
        assert found[index] in labels[np.ix_(*near)]
