"""Restored nuclei: exactly their voxels, and no others."""

import numpy as np
import pytest

from qcanet_monai.core.repair import moved, put_back

SPACING = (2.0, 1.0, 1.0)


def box(*slices, shape=(6, 10, 20)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*s) for s in slices)] = True
    return mask


LEFT, RIGHT = box((2, 4), (3, 7), (3, 7)), box((2, 4), (3, 7), (7, 11))


def test_a_mask_moves_by_whole_voxels_and_leaves_at_the_border():
    assert np.array_equal(moved(LEFT, (0, 0, 4.2), spacing=SPACING), RIGHT)
    assert np.array_equal(moved(LEFT, (2.0, -1, 0), spacing=SPACING), box((3, 5), (2, 6), (3, 7)))
    assert np.array_equal(moved(LEFT, (0, -5, 0), spacing=SPACING), box((2, 4), (0, 2), (3, 7)))
    assert not moved(LEFT, (0, 0, 50), spacing=SPACING).any()
    assert np.array_equal(moved(LEFT, (0, 0, 0), spacing=SPACING), LEFT)


def test_merged_nuclei_are_parted_between_their_centres():
    labels = np.where(LEFT | RIGHT, 5, 0)
    assert put_back(labels, RIGHT, 9, spacing=SPACING, expected={5: LEFT}) == "split"
    assert np.array_equal(labels, np.where(LEFT, 5, 0) + np.where(RIGHT, 9, 0))


def test_a_vanished_nucleus_is_restored_where_there_is_background():
    labels = np.where(LEFT, 5, 0)
    assert put_back(labels, RIGHT, 9, spacing=SPACING, expected={}) == "restored"
    assert np.array_equal(labels, np.where(LEFT, 5, 0) + np.where(RIGHT, 9, 0))
    partly = np.where(LEFT, 5, 0)
    wider = box((2, 4), (3, 7), (6, 11))
    assert put_back(partly, wider, 9, spacing=SPACING, expected={5: LEFT}) == "restored"
    assert np.array_equal(partly == 9, RIGHT)
    assert np.array_equal(partly == 5, LEFT)


@pytest.mark.parametrize(
    ("labels", "lacking", "expected"),
    [
        (np.where(RIGHT, 5, 0), RIGHT, {5: RIGHT}),  # one nucleus stays one
        (np.where(RIGHT, 5, 0), RIGHT, {}),  # its previous place is unknown
        (np.zeros_like(LEFT, int), np.zeros_like(LEFT), {}),
        (np.zeros_like(LEFT, int), box((0, 2), (3, 7), (3, 7)), {}),  # it may have left the field
    ],
)
def test_what_the_neighbours_do_not_prove_is_left(labels, lacking, expected):
    before = labels.copy()
    assert put_back(labels, lacking, 9, spacing=SPACING, expected=expected) is None
    assert np.array_equal(labels, before)
