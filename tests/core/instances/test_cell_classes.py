"""Cells to voxel classes and back."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage as ndi

from qcanet_monai.core.instances.cell_classes import cell_classes, cells_from_classes, membrane_weights
from qcanet_monai.core.metrics.scores import evaluate
from qcanet_monai.errors import InputError

UNIT = (1.0, 1.0, 1.0)


def tessellation(seed, shape, grid=(2, 2, 3)):
    """Make cells around jittered grid points, with background at the rear end."""
    rng = np.random.default_rng(seed)
    points = np.stack(np.indices(grid), -1).reshape(-1, 3) + rng.uniform(0.35, 0.65, (np.prod(grid), 3))
    depth = shape[0] * 3 // 4
    seeds = points * [depth, *shape[1:]] / grid
    places = np.stack(np.indices(shape), -1)[..., None, :]
    labels = 1 + ((places - seeds) ** 2).sum(-1).argmin(-1)
    labels[depth:] = 0
    return labels


def probabilities(classes, sure=0.8):
    """Make a network's output with this probability for each voxel's class."""
    others = (1 - sure) / 2
    return np.stack([np.where(classes == c, sure, others) for c in range(3)]).astype(np.float32)


def by_the_cells_own_distances(labels, width):
    """Compute the authors' definition, cell by cell."""
    classes = np.zeros(labels.shape, np.uint8)
    for label in np.setdiff1d(labels, [0]):
        own = labels == label
        distance = ndi.distance_transform_edt(own)
        classes[own] = np.where(distance[own] <= width, 1, 2)
    return classes


@pytest.mark.parametrize("width", [1, 1.5, 1.8, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_classes_are_those_of_the_distance_inside_each_cell(seed, width):
    labels = tessellation(seed, (16, 20, 26))
    classes = cell_classes(labels, width_voxels=width)
    assert classes.dtype == np.uint8
    assert_array_equal(classes, by_the_cells_own_distances(labels, width))
    assert (np.bincount(classes.ravel()) > 100).all()


def test_a_membrane_of_one_and_a_half_voxels_holds_what_meets_another_across_a_face_or_an_edge():
    labels = np.ones((7, 7, 7), np.uint16)
    labels[3, 3, 3] = 2
    near = np.abs(np.indices(labels.shape) - 3)
    expected = np.where((near.max(0) <= 1) & (near.sum(0) <= 2), 1, 2)
    assert_array_equal(cell_classes(labels), expected)
    labels[3, 3, 3] = 0
    expected[3, 3, 3] = 0
    assert_array_equal(cell_classes(labels), expected)


def test_the_volumes_border_is_no_membrane():
    assert_array_equal(cell_classes(np.ones((3, 4, 5), int)), np.full((3, 4, 5), 2))
    assert_array_equal(cell_classes(np.ones((1, 1, 5), int), width_voxels=3), np.full((1, 1, 5), 2))


@pytest.mark.parametrize("width", [0, 0.9, -1, float("inf"), float("nan")])
def test_a_membrane_thinner_than_a_voxel_or_without_end_is_refused(width):
    with pytest.raises(InputError, match=r"at least 1 voxel, got .*: give"):
        cell_classes(np.ones((2, 2, 2), int), width_voxels=width)


def test_weights_fall_linearly_from_the_membrane_to_the_deepest_voxel():
    row = np.array([1, 2, 2, 2, 2, 2, 2, 2, 1, 0, 1, 2, 1])  # depths of 1, 2, 3, 4, 3, 2, 1 voxels
    classes = np.broadcast_to(row, (3, 4, 13))
    weights = membrane_weights(classes)
    assert weights.dtype == np.float32
    expected = np.array([4, 4, 3, 2, 1, 2, 3, 4, 4, 4, 4, 4, 4]) / 4
    assert_array_equal(weights, np.broadcast_to(expected, classes.shape))


@pytest.mark.parametrize("value", [0, 1, 2])
def test_weights_are_all_one_where_no_foreground_has_a_depth(value):
    weights = membrane_weights(np.full((3, 4, 5), value, np.uint8))
    assert weights.dtype == np.float32
    assert_array_equal(weights, np.ones((3, 4, 5)))


@pytest.mark.parametrize("method", ["tascan", "dbscan"])
def test_cells_come_back_from_their_classes(method):
    truth = tessellation(1, (36, 40, 60))
    outputs = probabilities(cell_classes(truth))
    found = cells_from_classes(outputs, spacing=UNIT, method=method)
    assert found.labels.dtype == np.uint16
    assert_array_equal(np.unique(found.labels), np.arange(13))
    assert_array_equal(found.labels > 0, truth > 0)
    assert evaluate(truth, found.labels)["cell_jaccard_mean"] > 0.97


def test_what_comes_with_the_labels():
    truth = tessellation(1, (36, 40, 60))
    outputs = probabilities(cell_classes(truth))
    found = cells_from_classes(outputs, spacing=(2.0, 1.0, 0.5))
    assert_allclose(found.foreground, np.where(truth, 0.9, 0.2), rtol=1e-6)
    assert found.foreground.dtype == np.float32
    assert found.centres_um is None
    assert not found.recovered.size


def pierced():
    """Two cells of 15 x 15 x 14 voxels; a wall of 2 voxels with a hole of 3 x 3."""
    classes = np.ones((17, 17, 34), np.uint8)
    classes[1:-1, 1:-1, 1:-1] = 2
    classes[:, :, 16:18] = 1
    classes[7:10, 7:10, 16:18] = 2
    return classes


def test_a_hole_in_the_membrane_parts_cells_unless_it_counts_as_large():
    outputs = probabilities(pierced())
    halves = np.broadcast_to(1 + (np.arange(34) > 16), (17, 17, 34))
    assert_array_equal(cells_from_classes(outputs, spacing=UNIT).labels, halves)
    assert_array_equal(cells_from_classes(outputs, spacing=UNIT, min_area=10).labels, halves)
    assert_array_equal(cells_from_classes(outputs, spacing=UNIT, min_area=9).labels, np.ones((17, 17, 34)))


def test_cells_below_the_smallest_go_to_their_neighbours():
    classes = np.zeros((9, 9, 24), np.uint8)
    classes[1:8, 1:8, 1:12], classes[2:7, 2:7, 2:11] = 1, 2  # 225 voxels of foreground
    classes[1:8, 1:8, 12:19], classes[2:7, 2:7, 13:18] = 1, 2  # 125
    outputs = probabilities(classes)
    for smallest, n_cells in ((125, 2), (126, 1), (225, 1)):
        labels = cells_from_classes(outputs, spacing=UNIT, min_size=smallest).labels
        assert_array_equal(labels > 0, classes > 0)
        assert labels.max() == n_cells
    empty = cells_from_classes(outputs, spacing=UNIT, min_size=226)
    assert not empty.labels.any()


def test_membranes_go_to_the_nearest_cell_in_micrometres():
    classes = np.ones((9, 9, 13), np.uint8)
    classes[:5, :, :5], classes[:, :, 8:] = 2, 2  # a box of 5 slices at one end, all 9 slices at the other
    place = (6, 4, 4)  # two slices from one, four columns from the other
    for spacing, nearest in ((UNIT, (0, 0, 0)), ((4.0, 1.0, 1.0), (0, 0, 12))):
        labels = cells_from_classes(probabilities(classes), spacing=spacing).labels
        assert labels.max() == 2
        assert labels[place] == labels[nearest]


def test_the_foreground_is_cut_where_it_narrows_in_micrometres():
    classes = np.zeros((11, 15, 25), np.uint8)
    classes[1:10, 1:14, 1:24] = 2
    classes[:, :, 8] = np.where(np.abs(np.arange(11) - 5) < 2, 2, 1)[:, None] * (classes[:, :, 8] > 0)
    outputs = probabilities(classes)  # a rod with a neck of three slices and 13 rows
    assert cells_from_classes(outputs, spacing=UNIT, min_area=40).labels.max() == 2
    assert cells_from_classes(outputs, spacing=(4.0, 1.0, 1.0), min_area=40).labels.max() == 1


def test_an_image_of_background_has_no_cell():
    found = cells_from_classes(probabilities(np.zeros((4, 5, 6))), spacing=UNIT)
    assert found.labels.shape == (4, 5, 6)
    assert found.labels.dtype == np.uint16
    assert not found.labels.any()


def test_another_method_is_refused():
    with pytest.raises(InputError, match=r"of tascan, dbscan, got 'kmeans'"):
        cells_from_classes(np.zeros((3, 2, 2, 2), np.float32), spacing=UNIT, method="kmeans")


@pytest.mark.parametrize("shape", [(2, 4, 4, 4), (4, 4, 4), (3, 4, 4), (1, 3, 4, 4, 4)])
def test_outputs_of_other_than_three_classes_are_refused(shape):
    with pytest.raises(InputError, match=r"expected probabilities of 3 classes as \(3, Z, Y, X\), got shape"):
        cells_from_classes(np.zeros(shape, np.float32), spacing=UNIT)
