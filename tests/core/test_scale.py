"""The scale of an image is where the network is surest, short of fused nuclei."""

import math

import numpy as np
import pytest

from qcanet_monai.core.scale import FACTOR, Look, Scale, change, confidence, surest_look, voxel_edge


def looking(*seen):
    """Look up (diameter in µm, volume in µm³, confidence) by edge, from 1 µm on."""
    asked = []

    def look(edge):
        asked.append(round(math.log(edge, FACTOR)))
        return Look(edge, *seen[asked[-1]])

    return look, asked


@pytest.mark.parametrize(
    ("seen", "finest", "at", "asked"),
    [
        # large and certain at once: the finer voxels are never looked at
        ([(21, 900, 0.9), (20.9, 900, 0.8), (21, 850, 0.7)], 0, 1, [1, 2]),
        # too fine at first: specks, less certain than the nuclei on coarser voxels
        ([(3, 5, 0), (7, 900, 0.5), (11, 850, 0.6), (15, 840, 0.8), (15, 830, 0.7)], 0, 3, [1, 2, 3, 4]),
        # broken at first: the confidence rises with the volume
        ([(3, 5, 0), (6, 500, 0.63), (14, 900, 0.78), (14.5, 930, 0.75)], 0, 2, [1, 2, 3]),
        # small nuclei: finer voxels are tried until they make the network less certain
        ([(5, 9, 0.6), (12, 900, 0.75), (13, 800, 0.7), (17, 700, 0.5)], 1, 1, [2, 3, 1, 0]),
        # interpolated noise is not trusted
        ([(5, 900, 0.58), (9, 900, 0.52), (9, 800, 0.5), (17, 700, 0.5)], 1, 1, [2, 3, 1, 0]),
        ([(5, 900, 0.68), (9, 900, 0.52), (9, 800, 0.5), (17, 700, 0.5)], 1, 0, [2, 3, 1, 0]),
        # an embryo is not taken for a nucleus, however certain
        ([(12, 900, 0.75), (13, 800, 0.55), (60, 9000, 0.8)], 0, 0, [1, 2, 0]),
        ([(12, 900, 0.75), (70, 9000, 0.9), (70, 9000, 0.8)], 0, 0, [1, 2, 0]),
        # neighbours that fuse look certain as well
        ([(12, 900, 0.6), (20, 950, 0.65), (30, 2000, 0.7)], 0, 1, [1, 2]),
        # a single object that is left
        ([(9, 800, 0.6), (9.5, 900, 0.55), (12, 20, 0.58), (12, 9, 0)], 0, 0, [1, 2, 3, 0]),
        # nothing anywhere
        ([(math.nan, 0, 0), (math.nan, 0, 0), (math.nan, 0, 0)], 0, 1, [1, 2, 0]),
    ],
)
def test_the_surest_look_short_of_fusion_is_found(seen, finest, at, asked):
    look, order = looking(*seen)
    edges = {"finest": FACTOR**finest, "interpolated": 1, "coarsest": FACTOR ** (len(seen) - 1) * 1.01}
    found, coarser = surest_look(look, **edges)
    assert round(math.log(found.edge_um, FACTOR)) == at
    assert order == asked
    assert coarser is None or coarser.edge_um == pytest.approx(found.edge_um * FACTOR)


@pytest.mark.parametrize(
    ("diameter", "resolution", "edge"),
    [
        (15, 1, None),  # between 14 and 18 voxels
        (36, 1, 2),  # downsampled to 18 voxels
        (36, 1.5, 2),
        (18, 1.2, None),  # nearly the finest voxels
        (21, 1.4, 1.4),  # interpolated voxels hold nothing new
        (14, 3, None),  # but nuclei stay 14 voxels wide
        (28, 3, 2),
        (14, 1.4, 14 / 12),  # or 12, if the resolution is credible
        (13, 1.2, 13 / 14),  # narrower, and surer on finer voxels
        (7, 1, 0.5),  # interpolated to 14 voxels
        (math.nan, 1, None),
    ],
)
def test_nuclei_become_as_wide_as_in_training(diameter, resolution, edge):
    found = voxel_edge(Scale(diameter, resolution), finest=1, across=18)
    assert found == (edge if edge is None else pytest.approx(edge))


def test_voxels_are_not_finer_than_those_of_the_surest_look():
    assert voxel_edge(Scale(6, look_um=0.7), finest=1, across=18) == 0.7
    assert voxel_edge(Scale(6, look_um=1.6), finest=1, across=18) is None
    assert voxel_edge(Scale(36, look_um=1.6), finest=1, across=18) == 2


def test_confidence_ignores_voxels_that_are_surely_background():
    assert confidence(np.array([0.0, 0.05, 1.0, 0.75])) == pytest.approx(0.75)
    assert confidence(np.zeros(4)) == 0


def test_the_change_has_no_direction():
    one, other, nothing = Look(1, 10, 1, 1), Look(1, 12, 1, 1), Look(1, math.nan, 0, 0)
    assert change(one, other) == change(other, one) == pytest.approx(1.2)
    assert change(one, nothing) == change(one, None) == math.inf
