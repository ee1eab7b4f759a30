"""Rules that divide a mask among its markers."""

import itertools

import numpy as np
import pytest
import tifffile
from helpers import SHARED, ball, distance_transforms, same_partition
from numpy.testing import assert_array_equal
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.segmentation import watershed

from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.instances.watershed import instances_from_masks, nuclei_from_probabilities
from qcanet_monai.errors import InputError

UNIT = (1.0, 1.0, 1.0)
EXAMPLE = SHARED / "data/qcanet_16cell"


def two_overlapping_balls():
    shape, left, right = (15, 15, 27), (7, 7, 7), (7, 7, 19)
    markers = np.zeros(shape, np.int32)
    markers[left], markers[right] = 1, 2
    return ball(shape, left, 7) | ball(shape, right, 7), markers


def row(*values):
    return np.array([[values]])


def test_two_overlapping_balls_with_two_markers_are_cut_in_their_middle():
    mask, markers = two_overlapping_balls()
    labels, recovered, *_ = instances_from_masks(mask, markers, spacing=UNIT)
    assert label(mask, connectivity=1).max() == 1
    assert_array_equal(labels > 0, mask)
    assert set(np.unique(labels[..., :13])) == {0, 1}
    assert set(np.unique(labels[..., 14:])) == {0, 2}
    assert recovered.size == 0


def test_two_overlapping_balls_with_one_marker_stay_one():
    mask, markers = two_overlapping_balls()
    labels = instances_from_masks(mask, np.where(markers == 2, 2, 0), spacing=UNIT).labels
    assert_array_equal(labels, mask)


def sixteen_balls():
    """Mask of an embryo's nuclei, many in contact, and balls at their centres."""
    shape, spacing = (18, 44, 40), (1.75, 0.8, 0.8)
    places = list(itertools.product((8.0, 22.0), (9.0, 25.0), (4.0, 11.5, 20.0, 27.5)))
    mask, centres = (sum(ball(shape, at, radius, spacing) for at in places) > 0 for radius in (4.2, 1.7))
    assert label(mask, connectivity=1).max() < 16
    return mask, centres


def authors_embryo():
    if not EXAMPLE.is_dir():
        pytest.skip(f"the example of the original authors is not at {EXAMPLE}")
    return (tifffile.imread(EXAMPLE / f"{name}.tif") for name in ("nsn", "ndn"))


@pytest.mark.parametrize("embryo", [sixteen_balls, authors_embryo])
def test_an_embryo_of_16_cells_is_divided_as_by_a_plain_watershed(embryo):
    spacing = (1.75, 0.8, 0.8)
    mask, centres = embryo()
    markers = markers_from_mask(centres)
    assert_array_equal(markers, label(centres > 0, connectivity=1))
    labels = instances_from_masks(mask, markers, spacing=spacing).labels
    distance = ndi.distance_transform_edt(mask > 0, sampling=spacing)
    assert same_partition(labels, watershed(-distance, markers, mask=mask > 0))
    assert labels.max() == 16


@pytest.mark.parametrize("seed", range(4))
def test_random_masks_are_divided_as_by_a_watershed_of_the_whole_volume(seed):
    rng = np.random.default_rng(seed)
    shape, spacing = (12, 20, 22), (2.0, 0.7, 0.9)
    mask = ndi.gaussian_filter(rng.standard_normal(shape), 1.5) > 0.05
    mask[:2], mask[..., -3:] = False, False  # a bounding box smaller than the volume
    markers = markers_from_mask(rng.random(shape) > 0.99)
    labels = instances_from_masks(mask, markers, spacing=spacing).labels
    distance = ndi.distance_transform_edt(mask, sampling=spacing)
    assert same_partition(labels, watershed(-distance, markers, mask=mask))
    assert_array_equal(np.unique(labels[labels > 0]), np.arange(1, labels.max() + 1))


def test_only_components_with_several_markers_are_flooded_each_in_its_own_box(monkeypatch):
    mask, markers = np.zeros((9, 12, 30), bool), np.zeros((9, 12, 30), np.int32)
    mask[2:5, 3:7, 4:9], mask[6:9, 0:4, 12:17], mask[2:5, 3:7, 20:25] = True, True, True
    markers[3, 4, 5], markers[3, 5, 7] = 1, 2
    markers[7, 1, 13], markers[7, 2, 15] = 3, 4  # cut by the border
    markers[3, 5, 22] = 5
    shapes = distance_transforms(monkeypatch)
    labels = instances_from_masks(mask, markers, spacing=UNIT).labels
    assert shapes == [(5, 6, 7), (4, 5, 7)]
    assert_array_equal(labels[markers > 0], markers[markers > 0])
    assert_array_equal(labels > 0, mask)


def test_a_component_without_marker_vanishes_and_labels_have_no_gap():
    mask = row(0, 1, 1, 0, 1, 1, 0, 1, 1, 0)
    markers = row(0, 7, 0, 0, 0, 0, 0, 0, 4, 0)
    assert_array_equal(
        instances_from_masks(mask, markers, spacing=UNIT).labels, row(0, 2, 2, 0, 0, 0, 0, 1, 1, 0)
    )


@pytest.mark.parametrize("markers", [None, np.zeros((1, 1, 6), np.int32)], ids=["None", "all zero"])
@pytest.mark.parametrize("recover_border", [False, True])
def test_without_any_marker_the_components_are_the_instances(markers, recover_border):
    mask = row(255, 255, 0, 255, 0, 255)
    labels, recovered, *_ = instances_from_masks(mask, markers, spacing=UNIT, recover_border=recover_border)
    assert_array_equal(labels, row(1, 1, 0, 2, 0, 3))
    assert recovered.size == 0


def test_components_are_six_connected():
    mask = np.array([[[1, 0], [0, 1]]])
    assert instances_from_masks(mask, spacing=UNIT).labels.max() == 2
    # so a marker does not reach a voxel that touches only by an edge
    assert_array_equal(
        instances_from_masks(mask, np.array([[[1, 0], [0, 0]]]), spacing=UNIT).labels, [[[1, 0], [0, 0]]]
    )


@pytest.mark.parametrize("marked", [True, False])
def test_labels_far_below_the_median_volume_disappear(marked):
    mask = np.pad(row(*[1] * 8, 0, *[1] * 10, 0, *[1] * 9, 0, 1, 1, 0, 1), 1)
    markers = label(mask, connectivity=1) if marked else None
    for share, left in ((0.0, [8, 10, 9, 2, 1]), (0.25, [8, 10, 9, 2]), (0.26, [8, 10, 9])):
        labels = instances_from_masks(mask, markers, spacing=UNIT, min_relative_intensity=share).labels
        assert_array_equal(np.bincount(labels.ravel())[1:], left)  # the median is 8


@pytest.mark.parametrize("marked", [True, False])
def test_with_an_image_labels_far_below_the_median_light_disappear(marked):
    mask = np.pad(row(1, 1, 1, 1, 0, 1, 0, 1, 1, 1), 1)
    markers = label(mask, connectivity=1) if marked else None
    image = np.full(mask.shape, 100, np.uint16)
    # intensity above the background: 40, 40 and 3; the second is condensed, of minimal size
    image[1, 1, 1:-1] = [110, 110, 110, 110, 100, 140, 100, 101, 101, 101]
    for share, left in ((0.0, [4, 1, 3]), (0.07, [4, 1, 3]), (0.08, [4, 1])):
        found = instances_from_masks(mask, markers, spacing=UNIT, image=image, min_relative_intensity=share)
        assert_array_equal(np.bincount(found.labels.ravel())[1:], left)


def test_without_a_share_a_label_darker_than_the_background_stays():
    mask, image = row(0, 1, 0, 1, 0), row(100, 50, 100, 150, 100)
    assert_array_equal(instances_from_masks(mask, spacing=UNIT, image=image).labels, row(0, 1, 0, 2, 0))


def test_a_component_without_marker_is_no_label_however_bright():
    mask, markers = row(0, 1, 0, 1, 0), row(0, 1, 0, 0, 0)
    found = instances_from_masks(
        mask, markers, spacing=UNIT, image=row(0, 10, 0, 90, 0), min_relative_intensity=0.5
    )
    assert_array_equal(found.labels, markers)


def test_an_image_that_the_mask_fills_has_no_background():
    image = row(4, 4, 0, 1).astype(np.uint8)
    for share, left in ((0.2, row(1, 1, 2, 2)), (0.3, row(1, 1, 0, 0))):  # 8 and 1; their median is 4.5
        found = instances_from_masks(
            row(1, 1, 1, 1), row(1, 1, 2, 2), spacing=UNIT, image=image, min_relative_intensity=share
        )
        assert_array_equal(found.labels, left)


def test_a_label_left_out_as_too_dim_comes_back_where_the_border_cuts_it():
    mask = np.zeros((5, 5, 14), np.uint8)
    mask[1:-1, 1:-1, 2:4] = mask[1:-1, 1:-1, 5:7] = 1  # 18 voxels each
    mask[2, 2, 9] = mask[2, 0, 11] = 1
    markers = label(mask)
    labels, recovered, *_ = instances_from_masks(
        mask, markers, spacing=UNIT, recover_border=True, min_relative_intensity=0.2
    )
    assert labels[2, 2, 9] == 0
    assert labels[2, 0, 11] in recovered
    assert len(recovered) == 1


def test_border_recovery_keeps_and_flags_exactly_the_unmarked_components_at_the_border():
    mask = np.zeros((5, 5, 9), np.uint8)
    mask[0, 1:3, 1], mask[2, 2, 3:5], mask[4, 4, 7:] = 1, 1, 1  # at a face, inside, in a corner
    mask[2, 0, 0], mask[2, 2, 7] = 1, 1  # at two faces with a marker, inside with one
    markers = np.zeros_like(mask, np.int32)
    markers[2, 0, 0], markers[2, 2, 7] = 3, 5
    without = instances_from_masks(mask, markers, spacing=UNIT)
    assert_array_equal(np.unique(without.labels), [0, 1, 2])
    assert without.recovered.size == 0
    labels, recovered, *_ = instances_from_masks(mask, markers, spacing=UNIT, recover_border=True)
    assert_array_equal(recovered, [3, 4])
    assert (labels[2, 0, 0], labels[2, 2, 7]) == (1, 2)
    assert not labels[2, 2, 3:5].any()
    assert_array_equal(np.isin(labels, recovered), (mask > 0) & (np.indices(mask.shape)[0] % 4 == 0))
    assert_array_equal(labels[0, 1:3, 1], [3, 3])
    assert_array_equal(labels[4, 4, 7:], [4, 4])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [0, -1])
def test_each_of_the_six_faces_is_a_border(axis, end):
    mask, markers = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), np.int32)
    place = [2, 2, 2]
    place[axis] = end
    mask[tuple(place)] = True
    markers[1, 1, 1] = 1
    labels, recovered, *_ = instances_from_masks(mask, markers, spacing=UNIT, recover_border=True)
    assert_array_equal(labels, mask)
    assert_array_equal(recovered, [1])


def test_distances_are_taken_in_micrometres():
    # a tube along x with two necks: one slice thick in z at x = 5, three voxels thick in y at x = 11
    mask = np.zeros((11, 11, 17), bool)
    mask[1:10, 1:10] = True
    mask[:, :, 5], mask[:, :, 11] = False, False
    mask[5, 1:10, 5], mask[1:10, 4:7, 11] = True, True
    markers = np.zeros(mask.shape, np.int32)
    markers[5, 5, 2], markers[5, 5, 14] = 1, 2
    # in voxels the necks are 1 and 2 wide: the middle belongs to the right; in µm 4 and 2: to the left
    assert instances_from_masks(mask, markers, spacing=UNIT).labels[5, 5, 8] == 2
    assert instances_from_masks(mask, markers, spacing=(4.0, 1.0, 1.0)).labels[5, 5, 8] == 1


def test_an_empty_mask_has_no_instance():
    mask, markers = np.zeros((3, 4, 5), np.uint8), np.ones((3, 4, 5), np.int32)
    for given in (None, markers):
        labels, recovered, *_ = instances_from_masks(mask, given, spacing=UNIT, recover_border=True)
        assert labels.shape == (3, 4, 5)
        assert labels.dtype == np.uint16
        assert not labels.any()
        assert recovered.size == 0


def test_markers_that_all_lie_outside_the_mask_leave_nothing():
    labels = instances_from_masks(row(0, 1, 1, 0, 0), row(0, 0, 0, 0, 9), spacing=UNIT).labels
    assert not labels.any()


@pytest.mark.parametrize("value", [0, 1])
def test_markers_of_another_shape_are_refused(value):
    told = r"^expected markers of the mask's shape \(2, 3, 4\), got \(2, 3, 5\): resample both to one grid$"
    with pytest.raises(InputError, match=told):
        instances_from_masks(np.ones((2, 3, 4)), np.full((2, 3, 5), value), spacing=UNIT)


def test_an_image_of_another_shape_is_refused():
    with pytest.raises(
        InputError, match=r"expected an image of the mask's shape \(2, 3, 4\), got \(2, 3, 5\)"
    ):
        instances_from_masks(np.ones((2, 3, 4)), spacing=UNIT, image=np.ones((2, 3, 5)))


def test_labels_are_uint16_up_to_65535_of_them_and_uint32_above():
    mask = (np.indices((2, 256, 258)).sum(0) % 2).astype(bool)  # 66,048 voxels that touch only by edges
    many = instances_from_masks(mask, spacing=UNIT).labels
    assert many.dtype == np.uint32
    assert many.max() == 66_048
    mask.flat[np.flatnonzero(mask)[: 66_048 - 65_535]] = False
    fewer = instances_from_masks(mask, spacing=UNIT).labels
    assert fewer.max() == 65_535
    assert fewer.dtype == np.uint16


def test_the_inputs_are_left_as_they_were():
    mask, markers = two_overlapping_balls()
    before = mask.copy(), markers.copy()
    instances_from_masks(mask, markers, spacing=UNIT, recover_border=True)
    assert_array_equal(mask, before[0])
    assert_array_equal(markers, before[1])


def test_a_depth_is_flooded_in_place_of_the_distance():
    mask, markers = row(0, 1, 1, 1, 1, 1, 1, 1, 0) > 0, row(0, 1, 0, 0, 0, 0, 0, 2, 0)
    depth = row(0.0, 1.0, 0.2, 0.5, 0.6, 0.7, 0.8, 1.0, 0.0)
    assert_array_equal(instances_from_masks(mask, markers, spacing=UNIT).labels[0, 0, 2:4], [1, 1])
    assert_array_equal(
        instances_from_masks(mask, markers, spacing=UNIT, depth=depth).labels[0, 0, 3:], [2] * 5 + [0]
    )
    with pytest.raises(InputError, match="expected a depth of the mask's shape"):
        instances_from_masks(mask, markers, spacing=UNIT, depth=depth[..., 1:])


def test_the_landscape_and_the_height_of_markers_are_chosen_by_name():
    region = np.ones((1, 1, 1, 9), np.float32)
    centre = row(1.0, 0.9, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)[None].astype(np.float32)
    options = {"image": region[0], "spacing": UNIT, "marker_threshold": 0.5}
    assert nuclei_from_probabilities(region, centre, **options).labels.max() == 1
    found = nuclei_from_probabilities(region, centre, **options, marker_height=0.1, landscape="depth").labels
    assert_array_equal(found[0, 0, [0, 1, 3, 8]], [1, 1, 2, 2])
    with pytest.raises(InputError, match="expected a landscape of distance, depth, got 'hills'"):
        nuclei_from_probabilities(region, centre, **options, landscape="hills")
