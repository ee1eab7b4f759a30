"""Training targets of a few voxels: weights, masks, densities and classes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.core.instances.density import count, density_map
from qcanet_monai.core.targets.border_weights import border_weights
from qcanet_monai.core.targets.build import (
    ANNOTATIONS,
    cell_target,
    depth_target,
    joint_target,
    mask_target,
    occupancy,
    qcanet_target,
)
from qcanet_monai.errors import InputError

SPACING = (2.0, 1.0, 1.0)


@pytest.fixture
def labels():
    """Two nuclei (labels 3, 7) four voxels apart; centres (8, 9, 9), (8, 9, 16) µm."""
    found = np.zeros((9, 19, 26), np.uint8)
    found[3:6, 8:11, 8:11] = 3
    found[3:6, 8:11, 15:18] = 7
    return found


CENTRES = np.array([[8.0, 9.0, 9.0], [8.0, 9.0, 16.0]])


def test_labels_tell_weight_mask_and_density(labels):
    weight, mask, density = target = joint_target(labels, spacing=SPACING)
    assert target.shape == (3, 9, 19, 26)
    assert target.dtype == np.float32
    assert_array_equal(mask, labels > 0)
    assert_array_equal(weight, border_weights(labels, spacing=SPACING, w0=10.0, sigma_um=2.0))
    assert_array_equal(density, density_map(CENTRES, labels.shape, spacing=SPACING, sigma_um=1.0))


def test_the_density_has_a_peak_of_1_at_each_centre_and_sums_to_their_number(labels):
    for sigma in (1.0, 1.5):
        density = joint_target(labels, spacing=SPACING, sigma_um=sigma)[2]
        assert_allclose(density[4, 9, [9, 16]], 1, atol=1e-3)
        assert_allclose(density[4, 9, [7, 18]], np.exp(-0.5 * (2 / sigma) ** 2), atol=1e-3)
    assert count(density, spacing=SPACING, sigma_um=1.5) == pytest.approx(2, rel=2e-3)
    assert not joint_target(labels, spacing=SPACING)[2][:, :4].any()  # five sigma away


def test_the_weight_comes_first_and_is_greatest_between_neighbours(labels):
    few = joint_target(labels, spacing=SPACING, border=0.0)[0]
    share = (labels > 0).mean()
    assert_allclose(few[labels > 0], min(0.5 / share, 10.0))
    assert_allclose(few[labels == 0], 0.5 / (1 - share))
    weight = joint_target(labels, spacing=SPACING, border=6.0, border_um=3.0)[0]
    # between voxel centres five apart, the distances to both sum to five
    assert_allclose((weight - few)[4, 9, 11:15], 6 * np.exp(-(5**2) / (2 * 3**2)), rtol=1e-5)
    assert_array_equal(weight[labels > 0], few[labels > 0])


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_channels_that_an_annotation_does_not_tell_are_nan_and_the_others_whole(labels, annotation):
    known = {"instances": [True, True, True], "centres": [False, False, True], "mask": [True, True, False]}
    target = joint_target(labels, spacing=SPACING, annotation=annotation)
    nan = np.isnan(target).reshape(3, -1)
    assert_array_equal(nan.all(axis=1), ~np.array(known[annotation]))
    assert_array_equal(nan.any(axis=1), ~np.array(known[annotation]))


@pytest.mark.parametrize("values", [(255, 255), (1, 1), (3, 7)])
def test_centres_are_those_of_a_marker_masks_components_whatever_its_values(labels, values):
    mask = np.select([labels == 3, labels == 7], values).astype(np.uint8)
    density = joint_target(mask, spacing=SPACING, annotation="centres")[2]
    assert_allclose(density, joint_target(labels, spacing=SPACING)[2], atol=1e-6)


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_alone_balances_the_classes_and_knows_no_gaps(labels, value):
    mask = np.where(labels > 0, value, 0).astype(np.uint8)
    weight, foreground, _ = joint_target(mask, spacing=SPACING, annotation="mask")
    assert_array_equal(foreground, labels > 0)
    assert_array_equal(weight, joint_target(labels, spacing=SPACING, border=0.0)[0])


def test_an_image_without_objects_has_a_target():
    nothing = np.zeros((2, 3, 4), np.uint16)
    weight, mask, density = joint_target(nothing, spacing=SPACING)
    assert_array_equal(weight, 1)
    assert not mask.any()
    assert not density.any()
    assert not joint_target(nothing, spacing=SPACING, annotation="centres")[2].any()
    assert_array_equal(cell_target(nothing, spacing=SPACING), [weight, mask])
    assert not mask_target(nothing, spacing=SPACING).any()


def test_an_unknown_annotation_is_refused_with_the_known_ones(labels):
    with pytest.raises(
        InputError, match="expected annotation to be one of instances, centres, mask, got 'boxes'"
    ):
        joint_target(labels, spacing=SPACING, annotation="boxes")


def test_cells_side_by_side_have_a_membrane_and_weights_that_fall_away_from_it():
    row = np.array([[[5, 5, 5, 5, 9, 9, 9]]], np.uint16)
    weight, classes = target = cell_target(row, spacing=SPACING)
    assert target.dtype == np.float32
    assert_array_equal(classes, [[[2, 2, 2, 1, 1, 2, 2]]])
    assert_allclose(weight, [[[1 / 3, 2 / 3, 1, 1, 1, 1, 2 / 3]]], rtol=1e-6)


def test_a_membrane_is_as_wide_as_asked_for_in_voxels_whatever_the_spacing():
    row = np.array([[[5, 5, 5, 5, 9, 9, 9, 0, 0]]], np.uint16)
    for width, expected in ((1.5, [2, 2, 2, 1, 1, 2, 1, 0, 0]), (2.0, [2, 2, 1, 1, 1, 1, 1, 0, 0])):
        for spacing in (SPACING, (1.0, 1.0, 9.0)):
            assert_array_equal(cell_target(row, spacing=spacing, width_voxels=width)[1], [[expected]])


def test_a_mask_is_one_channel_of_0_and_1(labels):
    target = mask_target(labels, spacing=SPACING)
    assert target.dtype == np.float32
    assert_array_equal(target, (labels > 0)[None])


def test_a_pairs_classes_are_nuclei_and_balls_at_their_centres(labels):
    (classes,) = qcanet_target(labels, spacing=(1.0, 1.0, 1.0))
    assert_array_equal(classes.astype(int) & 1, labels > 0)
    centres = classes >= 2
    z, y, x = np.indices(labels.shape)
    near = [(z - 4) ** 2 + (y - 9) ** 2 + (x - at) ** 2 <= 9 for at in (9, 16)]
    assert_array_equal(centres, near[0] | near[1])
    assert not qcanet_target(np.zeros_like(labels), spacing=(1.0, 1.0, 1.0)).any()


def test_depth_has_one_peak_per_nucleus_and_a_valley_where_two_touch():
    touching = np.repeat([0, 5, 9, 0], [2, 5, 3, 2])[None, None]
    found = depth_target(
        np.pad(touching, ((1, 1), (1, 1), (0, 0))).repeat(3, 0).repeat(3, 1), spacing=SPACING
    )
    assert found.dtype == np.float32
    # 6 µm along z: 2 µm from every voxel to the surface but in the middle of the wider nucleus
    assert_allclose(found[0, 4, 4], [0, 0, 0.5, 1, 1, 1, 0.5, 0.5, 1, 0.5, 0, 0])


def test_depth_knows_no_surface_where_the_border_cuts_a_nucleus():
    labels = np.zeros((9, 9, 12), np.uint16)
    labels[:, :, :6] = 1
    assert_allclose(depth_target(labels, spacing=(1.0, 1.0, 1.0))[0, 4, 4, :6], np.arange(6, 0, -1) / 6)
    assert_allclose(depth_target(np.ones((2, 3, 4), np.uint8), spacing=SPACING), 1)
    assert not depth_target(np.zeros((2, 3, 4), np.uint8), spacing=SPACING).any()


def test_depth_is_measured_in_um():
    labels = np.zeros((9, 15, 15), np.uint8)
    labels[2:7, 2:13, 2:13] = 4  # 10 x 11 x 11 um
    depth = depth_target(labels, spacing=SPACING)[0]
    assert_allclose(depth[2, 7, 7], 2 / 6)
    assert_allclose(depth[4, 2, 7], 1 / 6)


@pytest.mark.parametrize("place", [3.0, 3.25, 3.5, 3.9])
def test_occupancy_is_the_fraction_of_a_voxel_within_a_plane(place):
    height = np.broadcast_to((place - np.arange(8)) * 0.2, (4, 4, 8)).astype(np.float32)
    filled = np.clip(place + 0.5 - np.arange(8), 0, 1)
    assert_allclose(occupancy(height), np.broadcast_to(filled, height.shape), atol=1e-6)


def test_the_occupancy_of_a_ball_sums_up_to_its_volume():
    z, y, x = np.ogrid[:20, :20, :20]
    distance = np.sqrt((z - 9.3) ** 2 + (y - 9.6) ** 2 + (x - 9.9) ** 2)
    assert_allclose(occupancy((6.3 - distance).astype(np.float32)).sum(), 4 / 3 * np.pi * 6.3**3, rtol=0.01)
