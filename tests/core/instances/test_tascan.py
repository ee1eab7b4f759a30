"""Super-voxels of a foreground, merged by touching area."""

from itertools import product

import numpy as np
import pytest
from helpers import ball, same_partition
from numpy.testing import assert_array_equal
from scipy import ndimage as ndi

from qcanet_monai.core.instances.tascan import dbscan, fill_from_nearest, merge_by_touching_area, supervoxels
from qcanet_monai.errors import InputError


def cells_with_a_hole(radius, thickness=2):
    """Two boxes of 15 x 15 x 14 voxels with a wall between and a round hole in it."""
    mask = np.zeros((17, 17, 30 + thickness), bool)
    mask[1:-1, 1:-1, 1:-1] = True
    z, y = np.ogrid[-8:9, -8:9]
    mask[:, :, 15 : 15 + thickness] &= (z**2 + y**2 <= radius**2)[..., None]
    return mask


def slabs(faces):
    """Two flat super-voxels that touch across `faces` faces, each partly free."""
    labels = np.zeros((6, 13, 14), np.int32)
    labels[2, 1:12, 1:13] = 1
    below = labels[3].reshape(-1)
    inside = np.flatnonzero(labels[2])
    below[inside[:faces]] = 2
    assert np.count_nonzero((labels[2] == 1) & (labels[3] == 2)) == faces
    return labels


def slow_merge(labels, min_area):
    """Merge by the definition: voxel by voxel, until no label changes."""
    area, surface = {}, {}
    for place in product(*map(range, labels.shape)):
        for axis, way in product(range(3), (-1, 1)):
            other = list(place)
            other[axis] += way
            if 0 <= other[axis] < labels.shape[axis] and labels[tuple(other)] != labels[place]:
                u, v = labels[place], labels[tuple(other)]
                surface[u] = surface.get(u, 0) + 1
                area[u, v] = area.get((u, v), 0) + 1
    name = {u: u for u in np.unique(labels)}
    for _ in name:
        for (u, v), faces in area.items():
            if u and v and (faces >= min_area or faces / surface[u] >= 0.5 or faces / surface[v] >= 0.5):
                name[u] = name[v] = min(name[u], name[v])
    return np.vectorize(name.get)(labels)


def random_supervoxels(seed, shape=(9, 10, 11), number=40):
    rng = np.random.default_rng(seed)
    seeds = np.zeros(shape, int)
    seeds.flat[rng.choice(seeds.size, number, replace=False)] = np.arange(1, number + 1)
    nearest = ndi.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    return np.where(rng.random(shape) < 0.15, 0, seeds[tuple(nearest)])


@pytest.mark.parametrize(("faces", "n_cells"), [(29, 2), (30, 1)])
def test_supervoxels_that_touch_over_30_faces_are_one_cell_and_over_29_are_two(faces, n_cells):
    labels = slabs(faces)
    # no contact exceeds half: the far side of a flat piece equals the near side, and the rim adds to it
    merged = merge_by_touching_area(labels)
    assert merged.max() == n_cells
    assert same_partition(merged, labels > 0 if n_cells == 1 else labels)


def test_the_least_touching_area_is_a_parameter():
    labels = slabs(20)
    assert merge_by_touching_area(labels, min_area=21).max() == 2
    assert merge_by_touching_area(labels, min_area=20).max() == 1


@pytest.mark.parametrize(("faces", "n_cells"), [(2, 2), (3, 1), (4, 1)])
def test_a_supervoxel_is_joined_if_half_of_its_surface_touches_another_and_not_below(faces, n_cells):
    labels = np.ones((5, 5, 5), np.int32)
    labels[2, 2, 2] = 2  # one voxel of six faces
    free = [(1, 2, 2), (2, 2, 3), (3, 2, 2), (2, 1, 2)][: 6 - faces]
    labels[tuple(np.transpose(free))] = 0
    assert merge_by_touching_area(labels).max() == n_cells


def test_it_is_the_surface_of_the_smaller_that_counts_and_the_volumes_border_is_no_surface():
    labels = np.zeros((4, 4, 9), np.int32)
    labels[:, :, 0] = 1  # touches over its whole surface of 16 faces
    labels[:, :, 1:] = 2
    assert merge_by_touching_area(labels).max() == 1
    labels = np.zeros((1, 1, 9), np.int32)
    labels[..., 2:4], labels[..., 4:6] = 1, 2  # one of two faces each
    assert merge_by_touching_area(labels).max() == 1
    apart = labels.copy()
    apart[..., 4] = 0
    assert merge_by_touching_area(apart).max() == 2


def test_joining_passes_on_from_neighbour_to_neighbour():
    labels = np.zeros((8, 8, 12), np.int32)
    for number in range(4):
        labels[1:7, 1:7, 1 + 2 * number : 3 + 2 * number] = number + 1
    labels[1:7, 1:7, 10] = 9
    labels[1:7, 1:7, 9] = 0
    assert_array_equal(merge_by_touching_area(labels), np.select([labels == 9, labels > 0], [2, 1]))


@pytest.mark.parametrize("seed", range(5))
def test_cells_are_those_of_the_definition_applied_voxel_by_voxel(seed):
    labels = random_supervoxels(seed)
    for min_area in (5, 8, 11):
        merged = merge_by_touching_area(labels, min_area=min_area)
        assert same_partition(merged, slow_merge(labels, min_area))
        assert 2 < len(np.unique(merged)) < len(np.unique(labels))


@pytest.mark.parametrize("seed", range(5))
def test_neither_order_nor_numbers_of_the_supervoxels_matter(seed):
    rng = np.random.default_rng(seed)
    labels = random_supervoxels(seed, (12, 20, 20), 120)
    merged = merge_by_touching_area(labels, min_area=12)
    assert 5 < merged.max() < 115
    for _ in range(5):
        numbers = np.concatenate([[0], rng.choice(1000, labels.max(), replace=False) + 1])
        assert_array_equal(merge_by_touching_area(numbers[labels], min_area=12), merged)


def test_cells_are_numbered_by_their_first_voxel():
    labels = np.array([[[0, 7, 0, 3, 0, 5]], [[2, 0, 0, 0, 0, 0]]])
    assert_array_equal(merge_by_touching_area(labels), [[[0, 1, 0, 2, 0, 3]], [[4, 0, 0, 0, 0, 0]]])


@pytest.mark.parametrize("min_area", [0, -1])
def test_a_touching_area_below_one_face_is_refused(min_area):
    with pytest.raises(InputError, match=f"at least 1 voxel face, got {min_area}: give"):
        merge_by_touching_area(np.ones((2, 2, 2), int), min_area=min_area)


@pytest.mark.parametrize("function", [supervoxels, lambda m: merge_by_touching_area(m.astype(int)), dbscan])
@pytest.mark.parametrize("shape", [(3, 4, 5), (0, 4, 5)])
def test_no_foreground_has_no_cell(function, shape):
    found = function(np.zeros(shape, bool))
    assert found.shape == shape
    assert found.dtype == np.int32
    assert not found.any()


def test_a_volume_full_of_foreground_is_one_supervoxel():
    assert_array_equal(supervoxels(np.ones((4, 5, 6), bool)), np.ones((4, 5, 6)))


def test_a_convex_cell_is_one_supervoxel_and_is_not_cut_by_the_volumes_border():
    assert_array_equal(supervoxels(ball((21, 21, 21), (10, 10, 10), 8)), ball((21, 21, 21), (10, 10, 10), 8))
    cut = ball((21, 21, 21), (0, 10, 20), 8)
    assert_array_equal(supervoxels(cut), cut)


def test_a_hole_in_a_membrane_is_cut_in_its_middle():
    mask = cells_with_a_hole(2)
    labels = supervoxels(mask)
    assert ndi.label(mask)[1] == 1
    assert_array_equal(labels, np.where(mask, 1 + (np.arange(32) > 15), 0))
    assert_array_equal(merge_by_touching_area(labels), labels)


@pytest.mark.parametrize("thickness", [1, 2, 3, 4])
@pytest.mark.parametrize(("radius", "faces"), [(1, 5), (2, 13), (3, 29)])
@pytest.mark.parametrize("way", [1, -1])
def test_cells_touch_over_no_more_than_the_hole_between_them(radius, faces, thickness, way):
    labels = supervoxels(cells_with_a_hole(radius, thickness)[..., ::way])
    assert labels.max() == 2
    assert merge_by_touching_area(labels, min_area=faces).max() == 1
    assert merge_by_touching_area(labels, min_area=faces + 1).max() == 2


def test_a_dumbbell_with_a_thick_handle_is_cut_and_joined_again():
    mask = cells_with_a_hole(4)  # 49 faces
    labels = supervoxels(mask)
    assert labels.max() == 2
    assert_array_equal(merge_by_touching_area(labels), mask)


@pytest.mark.parametrize(("apart", "faces", "n_cells"), [(18, 21, 2), (14, 121, 1)])
def test_two_balls_that_overlap_in_a_small_disc_stay_two_and_in_a_large_one_are_one(apart, faces, n_cells):
    shape, middle = (21, 21, 40), 10 + apart // 2
    mask = ball(shape, (10, 10, 10), 9.3) | ball(shape, (10, 10, 10 + apart), 9.3)
    assert mask[..., middle].sum() == faces
    labels = supervoxels(mask)
    assert labels.max() == 2
    assert merge_by_touching_area(labels).max() == n_cells


def peaks_and_depth(mask, spacing, window):
    depth = ndi.distance_transform_edt(mask, spacing)
    peaks = (depth == ndi.maximum_filter(depth, window)) & ndi.binary_erosion(mask, border_value=1)
    return ndi.label(peaks, np.ones((3, 3, 3))), depth


@pytest.mark.parametrize(("spacing", "window"), [((1, 1, 1), (7, 7, 7)), ((1, 2, 2), (7, 5, 5))])
@pytest.mark.parametrize("seed", range(6))
def test_each_voxel_goes_to_a_marker_that_it_reaches_by_the_deepest_way(seed, spacing, window):
    rng = np.random.default_rng(seed)
    mask = ndi.gaussian_filter(rng.standard_normal((24, 26, 28)), 2.5) > -0.02
    (markers, n_markers), depth = peaks_and_depth(mask, spacing, window)
    labels = supervoxels(mask, spacing=spacing)
    assert n_markers > 5
    assert_array_equal(np.unique(labels), np.arange(n_markers + 1))
    assert_array_equal(labels[markers > 0], markers[markers > 0])
    # a component at some depth belongs to the markers inside
    for level in np.unique(depth[mask]):
        components, number = ndi.label(depth >= level)
        held = np.zeros((number + 1, n_markers + 1), bool)
        held[components[markers > 0], markers[markers > 0]] = True
        marked = held[:, 1:].any(1)
        held[~marked, :] = True
        held[0, :] = True
        assert held[components, labels].all()
    components, _ = ndi.label(mask)
    assert_array_equal(labels > 0, np.isin(components, components[markers > 0]))


def test_a_sheet_of_two_voxels_has_no_supervoxel_and_one_of_three_has():
    mask = np.zeros((12, 9, 9), bool)
    mask[1:3], mask[5:8] = True, True
    assert_array_equal(supervoxels(mask), mask & (np.arange(12) > 4)[:, None, None])


def test_supervoxels_are_cut_by_distances_in_micrometres():
    mask = np.zeros((11, 15, 25), bool)
    mask[1:10, 1:14, 1:24] = True
    mask[:, :, 8] &= np.abs(np.arange(11) - 5)[:, None] < 2  # a neck of three slices and 13 rows
    coarse = supervoxels(mask, spacing=(4.0, 1.0, 1.0))
    fine = supervoxels(mask, spacing=(1.0, 1.0, 1.0))
    assert_array_equal(supervoxels(mask, spacing=(2.5, 2.5, 2.5)), fine)
    assert_array_equal(supervoxels(mask), fine)
    assert fine[5, 7, 4] != fine[5, 7, 16]
    # three slices of 4 µm are as thick as the rod is wide: no neck remains
    assert coarse[5, 7, 4] == coarse[5, 7, 16]


def test_dbscan_parts_what_only_a_hole_joins_and_leaves_out_what_is_thin():
    mask = cells_with_a_hole(1.5)
    found = dbscan(mask)
    assert found.max() == 2
    assert_array_equal(np.unique(found[:, :, :15]), [0, 1])
    assert_array_equal(np.unique(found[:, :, 17:]), [0, 2])
    assert dbscan(mask, eps_voxels=1, min_samples=4).max() == 1
    line = np.zeros((3, 3, 9), bool)
    line[1, 1, 1:8] = True
    assert_array_equal(dbscan(line, eps_voxels=1, min_samples=3), line)  # both ends are near a core
    assert not dbscan(line, eps_voxels=1, min_samples=4).any()


@pytest.mark.parametrize(("eps", "least"), [(0, 5), (-1.0, 5), (float("nan"), 5), (1, 0)])
def test_dbscan_without_a_radius_or_a_density_is_refused(eps, least):
    with pytest.raises(InputError, match="expected eps_voxels above 0 and min_samples of at least 1"):
        dbscan(np.ones((2, 2, 2), bool), eps_voxels=eps, min_samples=least)


def test_what_is_left_inside_goes_to_the_nearest_cell_and_nothing_outside():
    cells = np.array([[[4, 0, 0, 0, 0, 9, 0]]], np.uint8)
    inside = np.array([[[1, 1, 1, 1, 1, 0, 0]]], bool)
    found = fill_from_nearest(cells, inside)
    assert_array_equal(found, [[[4, 4, 4, 9, 9, 9, 0]]])
    assert found.dtype == np.uint8
    assert_array_equal(cells, [[[4, 0, 0, 0, 0, 9, 0]]])


def test_the_nearest_cell_is_that_in_micrometres():
    cells = np.zeros((3, 1, 4), int)
    cells[0, 0, 0], cells[2, 0, 3] = 1, 2
    inside = np.zeros(cells.shape, bool)
    inside[2, 0, 0] = True
    assert fill_from_nearest(cells, inside)[2, 0, 0] == 1
    assert fill_from_nearest(cells, inside, spacing=(2.0, 1.0, 1.0))[2, 0, 0] == 2


def test_without_any_cell_nothing_is_filled():
    assert not fill_from_nearest(np.zeros((2, 2, 2), int), np.ones((2, 2, 2), bool)).any()
