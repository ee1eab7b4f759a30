"""Measurements against closed forms and counts made by hand."""

import numpy as np
import pytest
from helpers import ball
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.core.measure.nuclei import label_means, mesh_area_um2, nucleus_table

SPACING = (2.0, 0.5, 0.25)
VOXEL_FACE = 0.25 ** (2 / 3)  # a voxel is 0.25 µm³


def whole_ball(radius_um, spacing):
    """A ball away from the border, its centre beside that of the middle voxel."""
    reach = [int(radius_um / step) + 2 for step in spacing]
    centre = [(n - 0.13) * step for n, step in zip(reach, spacing, strict=True)]
    return ball([2 * n + 1 for n in reach], centre, radius_um, spacing)


def with_box(shape=(6, 7, 8), box=np.s_[1:4, 2:6, 3:6], value=1):
    labels = np.zeros(shape, np.uint16)
    labels[box] = value
    return labels


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 0.8), (1.75, 0.8, 0.8)])
def test_a_ball_has_the_volume_of_its_voxels_close_to_the_exact_one(spacing):
    mask = whole_ball(8.0, spacing)
    table = nucleus_table(mask.astype(np.uint16), spacing=spacing)
    assert table["n_voxels"][0] == mask.sum()
    assert_allclose(table["volume_um3"], mask.sum() * np.prod(spacing))
    assert_allclose(table["volume_um3"], 4 / 3 * np.pi * 8.0**3, rtol=0.02)


def test_a_box_of_3_by_4_by_3_voxels_is_measured_as_by_hand():
    table = nucleus_table(with_box(), spacing=SPACING)
    assert {name: column.shape for name, column in table.items()} == dict.fromkeys(table, (1,))
    assert table["n_voxels"][0] == 36
    assert_allclose(table["volume_um3"], 36 * 0.25)
    # all but the 1 x 2 x 1 inner voxels
    assert_allclose(table["surface_contact_um2"], 34 * VOXEL_FACE)
    assert_allclose(table["centroid_z_um"], 2 * 2.0)
    assert_allclose(table["centroid_y_um"], 3.5 * 0.5)
    assert_allclose(table["centroid_x_um"], 4 * 0.25)
    assert table["touches_border"][0] == 0


def test_contact_with_another_nucleus_is_no_contact_with_background():
    labels = np.zeros((5, 5, 8), np.uint16)
    labels[1:4, 1:4, 1:4], labels[1:4, 1:4, 4:7] = 1, 2
    contact = nucleus_table(labels, spacing=(1.0, 1.0, 1.0))["surface_contact_um2"]
    # of 27 voxels, the middle one and the middle one of the shared face are hidden
    assert_allclose(contact, [25, 25])


def test_background_that_touches_by_an_edge_only_is_no_contact():
    labels = np.ones((3, 3, 3), np.uint16)
    labels[0, 0, 1] = 0
    contact = nucleus_table(labels, spacing=(1.0, 1.0, 1.0))["surface_contact_um2"]
    assert_allclose(contact, [4])  # four neighbours by a face; two more faces lie at the border


@pytest.mark.parametrize(
    ("spacing", "radius_um"),
    [((1.0, 1.0, 1.0), 6.0), ((0.8, 0.8, 0.8), 8.0), ((1.75, 0.8, 0.8), 10.5), ((2.0, 0.5, 0.5), 12.0)],
)
def test_the_mesh_of_a_ball_has_nearly_the_exact_area(spacing, radius_um):
    assert_allclose(
        mesh_area_um2(whole_ball(radius_um, spacing), spacing=spacing), 4 * np.pi * radius_um**2, rtol=0.05
    )


def test_the_mesh_counts_a_face_that_the_border_cuts():
    mask = whole_ball(12.0, (1.0, 1.0, 1.0))
    half = mask[len(mask) // 2 :]
    assert_allclose(mesh_area_um2(half, spacing=(1.0, 1.0, 1.0)), 3 * np.pi * 12.0**2, rtol=0.04)


def test_the_mesh_of_a_nucleus_does_not_feel_its_neighbour():
    labels = with_box((9, 9, 16), np.s_[2:7, 2:7, 2:7])
    alone = nucleus_table(labels, spacing=SPACING)["surface_mesh_um2"]
    labels[2:7, 2:7, 7:13] = 2
    beside = nucleus_table(labels, spacing=SPACING)["surface_mesh_um2"]
    assert beside[0] == alone[0]
    assert beside[1] > alone[0]


def test_specific_surfaces_are_surface_over_volume():
    labels = with_box()
    labels[1, 0, 0:3] = 2
    table = nucleus_table(labels, spacing=SPACING)
    for kind in ("contact", "mesh"):
        surface, specific = table[f"surface_{kind}_um2"], table[f"specific_surface_{kind}_per_um"]
        assert_allclose(specific, surface / table["volume_um3"])
        assert (specific > 0).all()


@pytest.mark.parametrize(
    ("box", "touches"),
    [
        (np.s_[1:5, 1:6, 1:7], 0),
        (np.s_[0:2, 2:4, 2:4], 1),
        (np.s_[5:6, 2:4, 2:4], 1),
        (np.s_[2:4, 0:2, 2:4], 1),
        (np.s_[2:4, 6:7, 2:4], 1),
        (np.s_[2:4, 2:4, 0:1], 1),
        (np.s_[2:4, 2:4, 7:8], 1),
    ],
)
def test_a_nucleus_at_any_of_the_six_faces_touches_the_border(box, touches):
    assert nucleus_table(with_box(box=box), spacing=SPACING)["touches_border"].tolist() == [touches]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "int64"])
def test_labels_with_gaps_keep_their_numbers_in_order(dtype):
    labels = np.zeros((1, 1, 8), dtype)
    labels[0, 0, 0:2], labels[0, 0, 4], labels[0, 0, 6:] = 9, 2, 5
    table = nucleus_table(labels, spacing=(1.0, 1.0, 1.0))
    assert_array_equal(table["label"], [2, 5, 9])
    assert_array_equal(table["n_voxels"], [1, 2, 2])
    assert_allclose(table["centroid_x_um"], [4, 6.5, 0.5])


def test_an_empty_image_has_every_column_without_rows():
    full = nucleus_table(with_box(), spacing=SPACING)
    empty = nucleus_table(np.zeros((2, 3, 4), np.uint16), spacing=SPACING)
    assert list(empty) == list(full)
    assert {name: (c.dtype, c.size) for name, c in empty.items()} == {
        n: (c.dtype, 0) for n, c in full.items()
    }


def test_a_nucleus_of_one_voxel_is_measured():
    table = nucleus_table(with_box(box=np.s_[3, 3, 3]), spacing=(1.0, 1.0, 1.0))
    assert table["n_voxels"].tolist() == [1]
    assert_allclose(table["surface_contact_um2"], 1)
    # at level one half, the mesh is an octahedron with corners half a voxel from the centre
    assert_allclose(table["surface_mesh_um2"], np.sqrt(3), rtol=1e-5)


def test_values_are_averaged_over_each_label():
    labels = np.array([[[1, 1, 0]], [[2, 1, 0]]], np.uint16)
    values = np.array([[[0.5, 0.25, 9]], [[0.125, 0.75, 9]]], np.float32)
    assert label_means(labels, values).tolist() == [0.5, 0.125]
    assert label_means(labels * 0, values).tolist() == []
