"""Voxels of one nucleus against closed forms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.simulator.nuclei import Nucleus, Phase, frame_along, rotation
from qcanet_monai.simulator.parameters import Growth, Optics
from qcanet_monai.simulator.shapes import Grid, chromatin, depth_um

SMOOTH = {"roughness": 0.0}
RESTING = (Phase.INTERPHASE, Phase.PROPHASE)
STILL = np.zeros((40, 2))


def nucleus(semi_axes_um=(5, 5, 5), *, centre_um=(0, 0, 0), turn=None, phase=Phase.INTERPHASE, seed=7):
    return Nucleus(
        number=1,
        parent=0,
        phase=phase,
        centre_um=np.array(centre_um, float),
        semi_axes_um=np.array(semi_axes_um, float),
        rotation=np.eye(3) if turn is None else turn,
        concentration=1.0,
        texture_seed=seed,
    )


def grid(shape=(40, 40, 40), spacing=(1.0, 1.0, 1.0), drift=STILL):
    return Grid(shape, spacing, np.array(shape) * spacing / 2, drift[: shape[0]])


def whole(on):
    return tuple(slice(0, n) for n in on.shape)


def box_of(on, one, margin_um, **growth):
    return on.box(one, margin_um, Growth(**growth))


def at(*points):
    return np.array(points, np.float32).T[..., None, None]


def test_offsets_are_vectors_from_the_nucleus_to_the_voxels():
    on = grid(shape=(6, 8, 10), spacing=(2.0, 0.5, 1.0))
    offsets = on.offsets(nucleus(centre_um=(1, 0, -2)), (slice(1, 4), slice(0, 8), slice(5, 7)))
    assert offsets.shape == (3, 3, 8, 2)
    assert offsets.dtype == np.float32
    # the embryo's centre lies at (6, 2, 5) µm
    assert_allclose(offsets[:, 0, 0, 0], [1 * 2 - 7, 0 - 2, 5 * 1 - 3])
    assert_allclose(offsets[:, 2, 7, 1], [3 * 2 - 7, 7 * 0.5 - 2, 6 * 1 - 3])


def test_drift_moves_slices_sideways():
    drift = np.stack([np.arange(40) * 0.1, np.arange(40) * -0.2], 1)
    one, straight, moved = nucleus((9, 9, 9)), grid(), grid(drift=drift)
    for z in (15, 20, 24):
        for on, y, x in ((straight, 20, 20), (moved, 20 + 0.1 * z, 20 - 0.2 * z)):
            inside = depth_um(one, on.offsets(one, whole(on)), Growth(**SMOOTH))[z]
            found = np.argwhere(inside > 0).mean(0)
            assert_allclose(found, [y, x], atol=0.2)


@pytest.mark.parametrize("turn", [None, frame_along(np.array([1.0, 2, -1]))])
def test_a_balls_depth_is_its_radius_less_the_distance(turn):
    on, ball = grid(), nucleus((6, 6, 6), centre_um=(2, -3, 0.5), turn=turn)
    offsets = on.offsets(ball, whole(on))
    assert_allclose(depth_um(ball, offsets, Growth(**SMOOTH)), 6 - np.linalg.norm(offsets, axis=0), atol=1e-4)


@pytest.mark.parametrize("phase", Phase)
def test_an_ellipsoids_depth_is_0_at_its_surface_and_its_mean_radius_in_the_middle(phase):
    turn = frame_along(np.array([1.0, 2, -1]))
    one = nucleus((3, 6, 12), turn=turn, phase=phase)
    ends = [sign * axis * column for axis, column in zip((3, 6, 12), turn.T, strict=True) for sign in (1, -1)]
    depth = depth_um(one, at(*ends, (0, 0, 0)), Growth(**SMOOTH)).ravel()
    assert_allclose(depth, [0] * 6 + [(3 * 6 * 12) ** (1 / 3)], atol=1e-5)


@pytest.mark.parametrize("power", [1.5, 3.0, 6.0])
def test_a_superellipsoid_reaches_its_semi_axes_and_further_or_less_between_them(power):
    one = nucleus((2, 4, 8))
    ends = np.diag([2.0, 4, 8])
    diagonal = 3 ** (-1 / power) * np.array([2.0, 4, 8])
    depth = depth_um(one, at(*ends, diagonal), Growth(squareness=power, **SMOOTH)).ravel()
    assert_allclose(depth, 0, atol=1e-5)


@pytest.mark.parametrize("bend", [0.2, 0.8])
def test_a_bend_shifts_the_first_axis_with_the_square_of_the_second(bend):
    one = nucleus((5, 5, 5))
    angle = np.linspace(0, 2 * np.pi, 9)
    surface = 5 * np.stack([np.cos(angle) - bend * (np.sin(angle) ** 2 - 0.3), np.sin(angle), 0 * angle], 1)
    assert_allclose(depth_um(one, at(*surface), Growth(bend=bend, **SMOOTH)).ravel(), 0, atol=1e-5)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("shape", [{"bend": 0.5}, {"squareness": 4.0}])
def test_bend_and_squareness_shape_interphase_nuclei_and_squareness_spindles(phase, shape):
    on, one = grid(), nucleus((3, 6, 8), phase=phase)
    offsets = on.offsets(one, whole(on))
    plain, shaped = (depth_um(one, offsets, Growth(**SMOOTH, **extra)) for extra in ({}, shape))
    shaped_phases = (*RESTING, Phase.SPINDLE) if "squareness" in shape else RESTING
    assert np.array_equal(plain, shaped) is (phase not in shaped_phases)


def directions(count=2000):
    points = np.random.default_rng(0).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("roughness", [0.02, 0.1])
def test_roughness_raises_four_waves_of_that_height_around_the_surface(roughness):
    surface, heights = at(*(5 * directions())), []
    for seed in range(40):
        bumps = depth_um(nucleus(seed=seed), surface, Growth(roughness=roughness)) / 5
        assert np.abs(bumps).max() <= 4 * roughness + 1e-5
        heights.append(bumps.std())
    # four cosines of independent phases: a variance of a half each
    assert np.mean(heights) == pytest.approx(np.sqrt(4 / 2) * roughness, rel=0.15)


def test_a_nucleuss_bumps_are_its_own_and_stay_the_same():
    surface, rough = at(*(5 * directions(50))), Growth(roughness=0.1)
    one, again, other = (depth_um(nucleus(seed=seed), surface, rough) for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(
    "growth",
    [
        {},
        {"roughness": 0.12, "bend": 0.35, "squareness": 3.0},
        {"roughness": 0.3, "bend": 0.0, "squareness": 2.0},
        {"roughness": 0.0, "bend": 0.8, "squareness": 2.0},
        {"roughness": 0.0, "bend": 0.0, "squareness": 6.0},
    ],
    ids=["default", "shipped", "rough", "bent", "square"],
)
def test_a_nucleuss_box_holds_all_of_it(growth):
    on, rng = grid(), np.random.default_rng(0)
    for seed in range(40):
        one = nucleus(5 * np.exp(rng.normal(0, 0.1, 3)), turn=rotation(rng), seed=seed)
        insides = [
            depth_um(one, on.offsets(one, box), Growth(**growth)) > 0
            for box in (whole(on), box_of(on, one, (0.5, 0.5, 0.5), **growth))
        ]
        assert insides[0].sum() == insides[1].sum() > 100


def test_a_box_leaves_room_for_blur_and_drift_and_ends_at_the_volume():
    margin = (6.0, 2.0, 3.0)
    on, one = grid(), nucleus((4, 4, 4))
    for s, room in zip(box_of(on, one, margin), margin, strict=True):
        assert s.start <= 20 - 4 - room
        assert s.stop >= 20 + 4 + room + 1
    still, moved = (box_of(grid(drift=np.full((40, 2), d)), one, margin) for d in (0.0, 2.0))
    assert [s.stop - s.start for s in moved[1:]] == [s.stop - s.start + 4 for s in still[1:]]
    corner = box_of(on, nucleus((4, 4, 4), centre_um=(-20, 0, 19)), margin)
    assert corner[0].start == 0
    assert corner[2].stop == 40


def test_a_nucleus_beyond_reach_has_no_box():
    assert box_of(grid(), nucleus((4, 4, 4), centre_um=(60, 0, 0)), (1.0, 1.0, 1.0)) is None
    assert box_of(grid(), nucleus((4, 4, 4), centre_um=(0, 0, -60)), (1.0, 1.0, 1.0)) is None


PLAIN = {"texture": 0.0, "nucleoli": 0.0, "chromocentres": 0.0}


def density(one, *, on=None, grain=0.0, **optics):
    on = grid() if on is None else on
    noise = np.full(on.shape, grain, np.float32)
    return chromatin(one, on.offsets(one, whole(on)), noise, Optics(**{**PLAIN, **optics}), 1.0)


@pytest.mark.parametrize("phase", Phase)
def test_plain_chromatin_is_even_in_every_phase(phase):
    assert_array_equal(density(nucleus(phase=phase)), 1)


def test_texture_spreads_the_logarithm_of_the_density_most_in_prophase():
    factors = {
        phase: float(np.log(density(nucleus(phase=phase), grain=2.0, texture=0.3)[0, 0, 0]))
        for phase in Phase
        if phase is not Phase.SPINDLE
    }
    assert factors[Phase.INTERPHASE] == pytest.approx(2 * 0.3)
    assert max(factors, key=factors.get) is Phase.PROPHASE
    assert all(factor < 0.6 for phase, factor in factors.items() if phase not in RESTING)


@pytest.mark.parametrize("phase", Phase)
def test_nucleoli_are_dark_and_chromocentres_bright_in_interphase_only(phase):
    dark = density(nucleus((9, 9, 9), phase=phase), nucleoli=6.0)
    bright = density(nucleus((9, 9, 9), phase=phase), chromocentres=12.0)
    if phase is Phase.INTERPHASE:
        assert dark.min() < 0.7
        assert dark.max() == 1
        assert bright.max() > 1.5
        assert bright.min() == 1
    else:
        assert_array_equal(dark, 1)
        assert_array_equal(bright, 1)


def test_nucleoli_take_a_small_part_of_the_nucleus_and_lie_mostly_inside():
    on, taken, outside = grid(), [], []
    for seed in range(20):
        one = nucleus((9, 9, 9), seed=seed)
        inside = np.linalg.norm(on.offsets(one, whole(on)), axis=0) < 9
        holes = density(one, nucleoli=3.0) < 1
        taken.append((holes & inside).sum() / inside.sum())
        outside.append((holes & ~inside).sum() / inside.sum())
    assert 0.01 < np.mean(taken) < 0.15
    assert np.mean(outside) < 0.4 * np.mean(taken)


@pytest.mark.parametrize("drifting", [0, 1])
def test_nucleoli_stand_where_they_are_whatever_the_box_and_the_drift(drifting):
    on = grid(drift=drifting * np.stack([np.linspace(-6, 6, 40), np.linspace(5, -5, 40)], 1))
    one, optics = nucleus((9, 9, 9), seed=5), Optics(**{**PLAIN, "nucleoli": 6.0, "chromocentres": 6.0})
    offsets, even = on.offsets(one, whole(on)), np.zeros((1, 40, 40), np.float32)
    together = density(one, on=on, nucleoli=6.0, chromocentres=6.0)
    # each slice computed alone
    alone = [chromatin(one, offsets[:, z : z + 1], even, optics, 1.0)[0] for z in range(40)]
    assert np.min(alone) < 0.7 < 1.5 < np.max(alone)
    assert_allclose(together, alone, atol=1e-5)
