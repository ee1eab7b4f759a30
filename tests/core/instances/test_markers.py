"""Each centre found by the detection network becomes one marker."""

import numpy as np
from numpy.testing import assert_array_equal

from qcanet_monai.core.instances.markers import markers_from_mask, markers_from_peaks


def test_voxels_that_touch_by_a_face_are_one_marker_by_an_edge_two():
    mask = np.array([[[255, 255, 0], [0, 0, 255]]], np.uint8)
    markers = markers_from_mask(mask)
    assert markers.dtype == np.int32
    assert_array_equal(markers, [[[1, 1, 0], [0, 0, 2]]])


def test_voxels_that_touch_by_a_corner_across_slices_are_two_markers():
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert markers_from_mask(mask).max() == 2


def test_components_below_the_smallest_size_are_left_out_without_a_gap():
    mask = np.array([[[1, 0, 1, 1, 0, 1, 1, 1, 0, 1]]])
    assert_array_equal(markers_from_mask(mask), [[[1, 0, 2, 2, 0, 3, 3, 3, 0, 4]]])
    assert_array_equal(markers_from_mask(mask, min_size=2), [[[0, 0, 1, 1, 0, 2, 2, 2, 0, 0]]])
    assert_array_equal(markers_from_mask(mask, min_size=3), [[[0, 0, 0, 0, 0, 1, 1, 1, 0, 0]]])
    assert not markers_from_mask(mask, min_size=4).any()


def test_an_empty_or_full_mask_has_no_or_one_marker():
    assert not markers_from_mask(np.zeros((2, 3, 4), np.uint8), min_size=2).any()
    assert_array_equal(markers_from_mask(np.ones((2, 3, 4), np.uint8), min_size=24), np.ones((2, 3, 4)))


def peaks(*values, height=0.1, least=0.2, min_size=1):
    depth = np.array([[values]], np.float32)
    return markers_from_peaks(depth, height=height, least=least, min_size=min_size)[0, 0].tolist()


def test_peaks_are_two_where_the_valley_between_is_deep_enough():
    assert peaks(0.3, 1.0, 0.8, 0.95, 0.3) == [0, 1, 0, 2, 0]
    assert peaks(0.3, 1.0, 0.8, 0.95, 0.3, height=0.2) == [0, 1, 1, 1, 0]


def test_a_shallow_and_a_deep_nucleus_need_no_common_threshold():
    # the valley of the one is higher than the peak of the other
    assert peaks(1.0, 0.7, 0.9, 0.0, 0.4, 0.0) == [1, 0, 2, 0, 3, 0]


def test_a_peak_below_the_least_depth_is_none_and_one_at_the_border_is_one():
    assert peaks(0.9, 0.5, 0.0, 0.15, 0.0, 0.6) == [1, 0, 0, 0, 0, 2]


def test_a_small_region_has_no_marker():
    assert peaks(0.9, 0.5, 0.0, 0.9, 0.0, min_size=2) == [1, 0, 0, 0, 0]


def test_a_flat_region_is_one_marker_and_nothing_is_none():
    assert peaks(0.5, 0.5, 0.5) == [1, 1, 1]
    assert peaks(0.0, 0.1, 0.0) == [0, 0, 0]
