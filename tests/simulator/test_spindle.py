"""Growing spindle: course, shape against closed forms, truth over a series."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import beta

from qcanet_monai.simulator.nuclei import Phase
from qcanet_monai.simulator.parameters import Growth, Optics
from qcanet_monai.simulator.series import simulate_frame, simulate_series
from qcanet_monai.simulator.settings import Simulation, read_simulation
from qcanet_monai.simulator.shapes import Grid, chromatin, depth_um
from qcanet_monai.simulator.spindle import Spindle

PARTS = np.linspace(0, 1, 21)
PLAIN = {"roughness": 0.0, "polar_bodies": 0}
NOISELESS = {
    "kind": "scmos", "photons": 1e8, "gain": 1e-5, "dark": 0, "offset": 0, "read_noise": 0, "bits": 16
}  # fmt: skip


def spindle(seed=0, **growth):
    return Spindle(Growth(**{"kind": "spindle", **PLAIN, **growth}), (seed,))


def body(part, seed=0, **growth):
    (one,) = spindle(seed, **growth).at(part).nuclei
    return one


def settings(**groups):
    view = {"lateral_um": 0.8, "anisotropy": 3, "depth_um": 48, "width_um": 48, "first": 0, "last": 1}
    return Simulation.model_validate(
        {
            "view": {**view, **groups.pop("view", {})},
            "growth": {"kind": "spindle", **PLAIN, **groups.pop("growth", {})},
            "camera": NOISELESS,
            **groups,
        }
    )


def volume_um3(frame):
    return (frame.instances > 0).sum() * np.prod(frame.spacing)


def closed_form(semi_axes_um, power):
    """Volume of |x / a| ** p + (r / b) ** p <= 1, a solid of revolution about x."""
    long, wide, _ = semi_axes_um
    return 2 * np.pi * long * wide**2 * beta(1 / power, 1 + 2 / power) / power


def test_it_starts_round_and_ends_as_long_and_wide_as_asked():
    of = {"spindle_start_um": 6, "spindle_length_um": 30, "spindle_width_um": 10}
    assert_allclose(body(0.0, **of).semi_axes_um, [3, 3, 3])
    assert_allclose(body(1.0, **of).semi_axes_um, [15, 5, 5])


def test_each_axis_grows_from_the_onset_on_and_never_before():
    course = [body(part, spindle_onset=0.3) for part in PARTS]
    for part, (one, two) in zip(PARTS[1:], pairwise(course), strict=True):
        if part <= 0.3:
            assert_array_equal(one.semi_axes_um, two.semi_axes_um)
        else:
            assert (two.semi_axes_um > one.semi_axes_um).all()
            assert two.semi_axes_um[0] / two.semi_axes_um[1] > one.semi_axes_um[0] / one.semi_axes_um[1]


def test_growth_slows_down():
    lengths = [body(part, spindle_onset=0.0).semi_axes_um[0] for part in (0, 0.5, 1)]
    assert lengths[1] - lengths[0] > 2 * (lengths[2] - lengths[1])


def test_a_start_wider_than_the_end_counts_as_the_end_and_a_short_one_stays_round():
    wide = {"spindle_start_um": 20, "spindle_length_um": 4, "spindle_width_um": 8}
    assert_allclose([body(part, **wide).semi_axes_um for part in (0, 0.5, 1)], 4)


def test_the_course_is_the_same_in_whatever_order_it_is_asked_for():
    once, again = spindle(3, debris=4), spindle(3, debris=4)
    forward = [once.at(part) for part in PARTS]
    for part, found in zip(PARTS[::-1], forward[::-1], strict=True):
        for one, two in zip(
            found.nuclei + found.others, [*(late := again.at(part)).nuclei, *late.others], strict=True
        ):
            assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_it_drifts_little_and_turns_slowly_and_keeps_its_identity():
    turns = []
    for seed in range(20):
        one, two = (body(part, seed, radius_um=40) for part in (0.0, 1.0))
        assert np.linalg.norm(two.centre_um) < 0.16 * 40
        assert 0 < np.linalg.norm(two.centre_um - one.centre_um) < 0.08 * 40
        turns.append(np.arccos(one.rotation[:, 0] @ two.rotation[:, 0]))
        assert (
            (one.number, one.parent, one.phase)
            == (two.number, two.parent, Phase.SPINDLE)
            == (1, 0, Phase.SPINDLE)
        )
    assert np.median(turns) > 0.05
    assert max(turns) < 0.5


def test_its_frame_is_orthonormal_and_turns_without_a_jump():
    for seed in range(20):
        frames = [body(part, seed).rotation for part in PARTS]
        for one, two in pairwise(frames):
            assert_allclose(one.T @ one, np.eye(3), atol=1e-12)
            assert np.trace(one.T @ two) > 1 + 2 * np.cos(0.06)  # a rotation of less than 0.06 radians


def test_its_axis_lies_rather_level():
    steep = [abs(body(0.0, seed).rotation[0, 0]) for seed in range(200)]
    assert np.mean(steep) < 0.35  # one half for random directions


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
def test_it_is_round_across_its_axis_and_as_pointed_as_asked_along_it(power):
    one = body(1.0)._replace(centre_um=np.zeros(3), rotation=np.eye(3))
    along, turn = np.meshgrid(np.linspace(-0.99, 0.99, 21), np.linspace(0, 6, 13))
    across = (1 - np.abs(along) ** power) ** (1 / power)
    surface = (
        np.stack([along, across * np.cos(turn), across * np.sin(turn)]) * one.semi_axes_um[:, None, None]
    )
    depth = depth_um(one, surface[..., None].astype(np.float32), Growth(roughness=0, squareness=power))
    assert_allclose(depth, 0, atol=1e-5)


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("part", [0.2, 1.0])
def test_its_truths_volume_is_that_of_the_closed_form(power, part):
    view = {"first": 0, "last": 1, "lateral_um": 0.5, "anisotropy": 1, "depth_um": 36, "width_um": 40}
    of = settings(
        view=view,
        growth={"squareness": power, "spindle_length_um": 24, "roughness": 0},
        optics={"lateral_um": 0.01, "axial_um": 0.01, "haze": 0, "outline": 0.5, "texture": 0, "body": 0},
    )
    frame = list(simulate_series(2, timepoints=6, settings=of))[round(part * 5)]
    expected = closed_form(body(part, 2, spindle_length_um=24).semi_axes_um, power)
    assert volume_um3(frame) == pytest.approx(expected, rel=0.06)


def test_the_closed_form_gives_an_ellipsoids_volume_and_two_cones():
    assert closed_form((3, 2, 2), 2.0) == pytest.approx(4 / 3 * np.pi * 12)
    assert closed_form((3, 2, 2), 1.0) == pytest.approx(2 * np.pi * 4 * 3 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_every_frame_of_a_shipped_series_has_one_label_and_the_volume_grows(seed):
    of = read_simulation("spindle").changed({"view": {"most": 72}, "growth": {"spindle_onset": 0}})
    frames = list(simulate_series(seed, timepoints=4, settings=of))
    assert [(f.numbers, f.parents, f.instances.max()) for f in frames] == [([1], [0], 1)] * 4
    volumes = [volume_um3(frame) for frame in frames]
    assert all(one < two for one, two in pairwise(volumes))


def test_other_things_that_glow_are_no_part_of_the_truth():
    plain, littered = (
        simulate_frame(1, settings=settings(growth={"debris": n, "glare": n // 6, "spindle_onset": 0}))
        for n in (0, 12)
    )
    assert littered.instances.max() == 1
    apart = littered.instances != plain.instances
    assert apart.mean() < 0.002
    assert (littered.image > 1.3 * plain.image.max()).any()


def test_the_oocyte_glows_as_asked_within_its_radius():
    of = settings(optics={"body": 0.5, "haze": 0, "texture": 0}, growth={"radius_um": 15}, view={"last": 0})
    frame = simulate_frame(0, settings=of)
    places = [(np.arange(n) - (n - 1) / 2) * d for n, d in zip(frame.image.shape, frame.spacing, strict=True)]
    distance = np.sqrt(sum(p**2 for p in np.meshgrid(*places, indexing="ij")))
    middle = frame.image.shape[0] // 2  # attenuation is 1 there
    ring = (distance[middle] < 8) & (frame.instances[middle] == 0) & (distance[middle] > 7)
    assert frame.image[middle][distance[middle] > 27].max() < 0.03 * frame.image[middle][ring].mean()


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0.1, 6.6), (3, 3.5)])
def test_a_series_runs_through_the_whole_course_whatever_the_views_unit(first, last):
    usual, other = (
        list(simulate_series(0, timepoints=3, settings=settings(view={"first": a, "last": b})))
        for a, b in ((0, 1), (first, last))
    )
    for one, two in zip(usual, other, strict=True):
        assert_array_equal(one.instances, two.instances)


def test_fewer_generations_end_earlier_and_a_moment_alone_is_full_grown():
    *_, last = simulate_series(0, timepoints=2, settings=settings())
    *_, early = simulate_series(0, timepoints=2, generations=0.3, settings=settings())
    *_, late = simulate_series(0, timepoints=2, generations=4, settings=settings())
    alone = simulate_frame(0, settings=settings(view={"first": 1, "last": 1}))
    assert volume_um3(early) < 0.8 * volume_um3(last)
    assert_array_equal(late.instances, last.instances)
    assert_array_equal(alone.instances, last.instances)


def density(texture, part=1.0, seed=0):
    on = Grid((24, 48, 48), (0.8, 0.8, 0.8), np.full(3, 10.0) * [1, 2, 2], np.zeros((24, 2)))
    one = body(part, seed)._replace(centre_um=np.zeros(3), rotation=np.eye(3)[[2, 1, 0]])
    whole = tuple(slice(0, n) for n in on.shape)
    offsets = on.offsets(one, whole)
    stain = chromatin(one, offsets, np.zeros(on.shape, np.float32), Optics(texture=texture), 0.8)
    return stain, offsets, depth_um(one, offsets, Growth(roughness=0)) > 0


def test_without_texture_the_stain_is_even_and_with_it_spreads_as_asked():
    stain, _, _ = density(0.0)
    assert_array_equal(stain, 1)
    spreads = [np.log(stain[inside]).std() for stain, _, inside in (density(0.3, 0.0, s) for s in range(12))]
    assert np.mean(spreads) == pytest.approx(0.3, abs=0.06)


def test_a_grown_spindle_is_dimmer_at_the_chromosomes_than_beside_them():
    ratios = []
    for seed in range(12):
        stain, offsets, inside = density(0.5, 1.0, seed)
        middle, beside = np.abs(offsets[2]) < 0.8, (np.abs(offsets[2]) > 4) & (np.abs(offsets[2]) < 7)
        ratios.append(stain[middle & inside].mean() / stain[beside & inside].mean())
    assert np.mean(ratios) < 0.8
    assert max(ratios) < 1.15


@pytest.mark.parametrize("seed", range(5))
def test_shipped_spindles_are_larger_than_a_slice_is_thick_and_lie_in_the_field(seed):
    view, growth, *_ = read_simulation("spindle").draw((seed,))
    assert growth.kind == "spindle"
    assert growth.spindle_start_um > view.spacing[0]
    assert 4 <= view.anisotropy <= 12
    assert growth.spindle_length_um < view.width_um
