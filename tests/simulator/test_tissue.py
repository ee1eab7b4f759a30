"""Tissue: nuclei side by side throughout the field."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial import ConvexHull, cKDTree

from qcanet_monai.simulator.nuclei import Phase
from qcanet_monai.simulator.parameters import Growth
from qcanet_monai.simulator.tissue import tissue

EXTENT = np.array([60.0, 100.0, 80.0])


def piece(seed=0, extent=EXTENT, **growth):
    return tissue(Growth(kind="tissue", **growth), extent, (seed,))


def places(population):
    return np.array([n.centre_um for n in population.nuclei])


@pytest.mark.parametrize(("diameter", "crowding"), [(10.0, 1.05), (10.0, 1.4), (16.0, 1.4), (9.0, 2.2)])
def test_neighbours_are_as_far_apart_as_asked_throughout_the_field(diameter, crowding):
    found = places(piece(diameter_um=diameter, crowding=crowding))
    apart = diameter * crowding
    nearest = cKDTree(found).query(found, 2)[0][:, 1]
    assert np.median(nearest) == pytest.approx(0.93 * apart, rel=0.04)
    assert nearest.min() > 0.7 * apart
    box = EXTENT + 2 * diameter
    assert np.abs(found).max(0) == pytest.approx(box / 2, rel=0.06)
    corners = np.stack(np.meshgrid(*[np.linspace(-e / 2, e / 2, 9) for e in EXTENT]), -1).reshape(-1, 3)
    assert cKDTree(found).query(corners)[0].max() < 1.3 * apart


def test_a_resting_nucleus_has_the_diameter_asked_for():
    resting = [n for n in piece(diameter_um=12.0, size_spread=0.0).nuclei if n.phase is Phase.INTERPHASE]
    diameters = [2 * np.prod(n.semi_axes_um) ** (1 / 3) for n in resting]
    assert np.median(diameters) == pytest.approx(12, rel=0.03)
    assert np.std(diameters) < 0.6


@pytest.mark.parametrize("empty", [0.2, 0.5, 0.9])
def test_a_plane_cuts_off_the_share_that_is_to_be_empty(empty):
    whole, cut = places(piece()), places(piece(empty=empty))
    assert len(cut) / len(whole) == pytest.approx(1 - empty, abs=0.01)
    kept = (np.abs(whole[:, None] - cut[None]).sum(-1) < 1e-9).any(1)
    assert kept.sum() == len(cut)
    # a plane separates two point sets if their convex hulls do not meet
    hull = ConvexHull(whole[~kept]).equations
    assert (cut @ hull[:, :3].T + hull[:, 3]).max(1).min() > 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_of_mitoses_is_as_asked(share):
    phases = [n.phase for n in piece(mitoses=share, crowding=1.0).nuclei]
    assert np.mean([phase is not Phase.INTERPHASE for phase in phases]) == pytest.approx(
        share, abs=0.03 if 0 < share < 1 else 0
    )
    if share:
        assert set(phases) >= {Phase.ANAPHASE, Phase.TELOPHASE, Phase.PROPHASE, Phase.METAPHASE}


def test_numbers_count_the_nuclei_from_1_and_there_are_no_parents():
    nuclei = piece(empty=0.3).nuclei
    assert [n.number for n in nuclei] == list(range(1, len(nuclei) + 1))
    assert {n.parent for n in nuclei} == {0}


def test_debris_are_small_pieces_that_are_no_nuclei():
    clean, littered = piece(), piece(debris=12)
    assert clean.others == []
    assert len(littered.others) == 12
    assert {speck.number for speck in littered.others} == {0}
    for speck, beside in zip(littered.others, littered.nuclei, strict=False):
        assert 0.1 <= np.max(speck.semi_axes_um / beside.semi_axes_um) <= 0.35
    assert_allclose(places(clean), places(littered))


def test_glare_lies_anywhere_in_the_field_and_is_no_nucleus():
    clean, glaring = piece(), piece(glare=20)
    assert len(glaring.others) == 20
    assert {body.number for body in glaring.others} == {0}
    assert min(body.concentration for body in glaring.others) >= 2
    share = np.abs([body.centre_um / EXTENT for body in glaring.others]).max(0)
    assert np.all((share > 0.35) & (share <= 0.6))
    assert_allclose(places(clean), places(glaring))


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_sizes_and_brightness_spread_as_asked(spread):
    nuclei = piece(size_spread=spread, brightness_spread=spread, condensation=0.0, mitoses=0.0).nuclei
    volumes = [np.log(np.prod(n.semi_axes_um)) for n in nuclei]
    assert np.std([np.log(n.concentration) for n in nuclei]) == pytest.approx(spread, abs=0.03)
    assert np.std(volumes) == pytest.approx(np.hypot(spread, 0.12), abs=0.05)  # with the cycle's growth


def test_frames_of_axes_are_orthonormal_and_a_third_lies_alike():
    nuclei = piece(mitoses=0.0).nuclei
    frames = np.array([n.rotation for n in nuclei])
    assert_allclose(np.swapaxes(frames, 1, 2) @ frames, np.broadcast_to(np.eye(3), frames.shape), atol=1e-9)
    alike = [sum(np.array_equal(one, two) for two in frames) for one in frames]
    assert max(alike) / len(nuclei) == pytest.approx(0.3, abs=0.06)


def test_a_seed_fixes_the_tissue_and_another_gives_another():
    assert np.array_equal(places(piece(3)), places(piece(3)))
    assert len(places(piece(3))) != len(places(piece(4))) or not np.allclose(
        places(piece(3)), places(piece(4))
    )


def test_a_field_smaller_than_one_nucleus_holds_one():
    assert len(piece(extent=np.array([4.0, 4.0, 4.0]), diameter_um=50.0, crowding=6.0).nuclei) == 1
