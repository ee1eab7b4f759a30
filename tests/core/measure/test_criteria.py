"""Criteria: exact values of nuclei placed by hand."""

import math

import numpy as np
import pytest

from qcanet_monai.core.measure.criteria import (
    MEASURES,
    centroids_of,
    extent,
    is_inner,
    space_fill,
    timepoint_criteria,
)
from qcanet_monai.core.measure.nuclei import nucleus_table
from qcanet_monai.errors import InputError

SPACING = (2.0, 1.0, 1.0)


def shell(count, radius_um):
    """Points on a circle around their mean, the origin."""
    angles = np.arange(count) * 2 * np.pi / count
    return np.column_stack([np.zeros(count), np.sin(angles), np.cos(angles)]) * radius_um


def cubes(count):
    """Cubes in a row, of 2 x 4 x 4 = 32 voxels and 64 µm³ each."""
    labels = np.zeros((6, 8, 8 * count), np.uint16)
    for number in range(count):
        labels[2:4, 2:6, 8 * number + 2 : 8 * number + 6] = number + 1
    return labels


def test_a_time_points_criteria_are_those_of_its_nuclei():
    labels = cubes(3)
    labels[2, 2, 2:6] = 0  # 28 voxels remain
    table = nucleus_table(labels, spacing=SPACING)
    row = timepoint_criteria(table)
    assert row["n_nuclei"] == 3
    volumes = [56.0, 64.0, 64.0]
    assert row["mean_volume_um3"] == pytest.approx(np.mean(volumes))
    assert row["sd_volume_um3"] == pytest.approx(np.std(volumes, ddof=1))
    assert row["sum_volume_um3"] == pytest.approx(184.0)
    for name in MEASURES:
        assert row[f"mean_{name}"] == pytest.approx(table[name].mean())
    assert math.isnan(row["n_inner"])
    assert math.isnan(row["n_outer"])


def test_a_cubes_surface_is_its_voxels_beside_the_background_scaled():
    # all 32 voxels of a 2 x 4 x 4 block touch the background
    table = nucleus_table(cubes(1), spacing=SPACING)
    assert table["surface_contact_um2"] == pytest.approx(32 * 2 ** (2 / 3))
    assert table["specific_surface_contact_per_um"] == pytest.approx(32 * 2 ** (2 / 3) / 64)


def test_one_nucleus_has_no_spread_and_none_no_mean():
    one = timepoint_criteria(nucleus_table(cubes(1), spacing=SPACING))
    assert (one["mean_volume_um3"], one["radius_um"]) == (64, 0)
    assert math.isnan(one["sd_volume_um3"])
    none = timepoint_criteria(nucleus_table(np.zeros((4, 4, 4), int), spacing=SPACING))
    assert (none["n_nuclei"], none["sum_volume_um3"]) == (0, 0)
    assert all(math.isnan(none[name]) for name in ("mean_volume_um3", "radius_um", "centre_z_um", "n_inner"))


def test_inner_are_those_within_four_tenths_of_the_radius():
    points = np.concatenate([shell(4, 3.9), shell(5, 4.1), shell(8, 10.0)])
    assert is_inner(points).tolist() == [True] * 4 + [False] * 13
    assert is_inner(points, share=0.42).sum() == 9
    assert extent(points).radius_um == pytest.approx(10)
    moved = is_inner(points + np.array([5.0, -3.0, 100.0]))
    assert moved.tolist() == is_inner(points).tolist()


def test_inner_and_outer_are_counted_from_16_cells_on():
    def row(points):
        values = {name: np.ones(len(points)) for name in ("label", *MEASURES)}
        return timepoint_criteria(
            values | dict(zip(("centroid_z_um", "centroid_y_um", "centroid_x_um"), points.T, strict=True))
        )

    points = np.concatenate([shell(4, 3.0), shell(12, 10.0)])
    assert (row(points)["n_inner"], row(points)["n_outer"]) == (4, 12)
    assert math.isnan(row(points[:15])["n_inner"])


def test_space_fill_counts_all_times_by_distance_from_each_times_own_centre():
    first, second = shell(4, 2.0), shell(6, 5.0) + np.array([100.0, 0.0, 0.0])
    assert space_fill([first, second, []], edges_um=[0, 1, 3, 6]).tolist() == [0, 4, 6]
    assert space_fill([[[7.0, 7.0, 7.0]]], edges_um=[0, 1]).tolist() == [1]
    assert space_fill([second], edges_um=[0, 1, 4]).tolist() == [0, 0]


def test_centroids_come_as_points():
    table = nucleus_table(cubes(2), spacing=SPACING)
    assert centroids_of(table) == pytest.approx(np.array([[5.0, 3.5, 3.5], [5.0, 3.5, 11.5]]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: is_inner(np.zeros((3, 3)), share=1.1),
        lambda: extent(np.zeros((3, 2))),
        lambda: space_fill([], edges_um=[0]),
        lambda: space_fill([], edges_um=[0, 2, 1]),
    ],
)
def test_what_cannot_be_is_refused(call):
    with pytest.raises(InputError, match="expected"):
        call()
