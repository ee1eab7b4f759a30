"""One nucleus at a given age in the cell cycle."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.simulator.nuclei import Phase, fragments, frame_along, nucleus
from qcanet_monai.simulator.parameters import Growth


def volume(nucleus):
    return 4 / 3 * np.pi * np.prod(nucleus.semi_axes_um)


def at_age(age, full_um3=1000.0, *, flat=1.0, brightness=1.0, axis=(0, 0, 1), **growth):
    return nucleus(
        age,
        full_um3,
        Growth(**growth),
        number=3,
        parent=1,
        centre_um=np.array([1.0, 2, 3]),
        offset_um=np.array([0.5, 0, 0]),
        axis=np.array(axis, float),
        lies=np.eye(3),
        flat=flat,
        brightness=brightness,
        texture_seed=7,
    )


def same(one, two):
    return len(one) == len(two) and all(
        all(np.array_equal(a, b) for a, b in zip(m, n, strict=True)) for m, n in zip(one, two, strict=True)
    )


@pytest.mark.parametrize(
    ("age", "phase", "relative"),
    [
        (0.01, Phase.ANAPHASE, 0.13),
        (0.02, Phase.TELOPHASE, 0.14),
        (0.04, Phase.TELOPHASE, 0.24),
        (0.06, Phase.INTERPHASE, 0.45),
        (0.46, Phase.INTERPHASE, 1.05 - 0.6 * np.exp(-2)),
        (0.92, Phase.PROPHASE, 0.75),
        (0.97, Phase.METAPHASE, 0.25),
    ],
)
def test_phase_size_and_brightness_follow_the_age(age, phase, relative):
    one = at_age(age, brightness=2.0, elongation=0.4, condensation=0.5)
    assert one.phase is phase
    assert volume(one) == pytest.approx(1000 * relative, rel=0.01)
    assert one.concentration == pytest.approx(2.0 * relative**-0.5)
    assert (one.number, one.parent, one.texture_seed) == (3, 1, 7)


@pytest.mark.parametrize("age", np.linspace(0, 1, 26))
def test_a_condensation_of_1_keeps_the_stains_amount_throughout_the_cycle(age):
    one = at_age(age, condensation=1.0)
    assert one.concentration * volume(one) == pytest.approx(1000, rel=0.01)


def test_condensed_nuclei_lie_across_the_axis_at_the_cells_middle_others_as_told_beside_it():
    for age in (0.01, 0.04, 0.97):
        one = at_age(age, axis=(0, 3, 4))
        assert_allclose(one.rotation[:, 0], [0, 0.6, 0.8])
        assert_array_equal(one.centre_um, [1, 2, 3])
    for age in (0.5, 0.92):
        one = at_age(age, axis=(0, 3, 4))
        assert_array_equal(one.rotation, np.eye(3))
        assert_array_equal(one.centre_um, [1.5, 2, 3])


def test_without_elongation_a_resting_nucleus_is_a_ball_and_with_it_keeps_its_volume():
    ball, long = at_age(0.5, elongation=0.0), at_age(0.5, elongation=0.5)
    assert np.ptp(ball.semi_axes_um) < 1e-12
    assert np.ptp(long.semi_axes_um) > 0.2 * ball.semi_axes_um[0]
    assert volume(long) == pytest.approx(volume(ball))


def test_a_flat_nucleus_is_thin_along_its_first_axis_and_keeps_its_volume():
    ball, flat = at_age(0.5, elongation=0.0), at_age(0.5, elongation=0.0, flat=0.64)
    assert_allclose(flat.semi_axes_um / ball.semi_axes_um, [0.64, 1.25, 1.25])
    assert_array_equal(at_age(0.97, flat=0.64).semi_axes_um, at_age(0.97).semi_axes_um)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 0, -2), (1, 2, -3), (1e-6, 1e-6, 1e-6)])
def test_a_frame_along_an_axis_is_orthonormal_with_that_axis_first(axis):
    frame = frame_along(np.array(axis, float))
    assert_allclose(frame.T @ frame, np.eye(3), atol=1e-12)
    assert_allclose(frame[:, 0] * np.linalg.norm(axis), axis)


def test_fragments_are_two_to_five_small_round_pieces_where_the_nucleus_was():
    numbers = set()
    for seed in range(40):
        dying = at_age(0.5)._replace(texture_seed=seed)
        pieces = fragments(dying)
        numbers.add(len(pieces))
        radius = np.prod(dying.semi_axes_um) ** (1 / 3)
        for piece in pieces:
            assert (piece.number, piece.phase) == (0, Phase.FRAGMENT)
            assert np.ptp(piece.semi_axes_um) == 0
            assert 0.15 <= piece.semi_axes_um[0] / radius <= 0.4
            assert 0.8 <= piece.concentration / dying.concentration <= 3
            assert np.linalg.norm(piece.centre_um - dying.centre_um) < 2 * radius
        assert same(pieces, fragments(dying))
    assert numbers == {2, 3, 4, 5}
