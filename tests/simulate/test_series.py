"""Whole recordings: reproducible, growing, with a truth that fits."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage as ndi

from qcanet_monai.simulate.lineage import Embryo
from qcanet_monai.simulate.render import render
from qcanet_monai.simulate.series import FIELD_UM, Recording, centre_balls, simulate_series

COARSE, NATIVE = (4.0, 2.0, 2.0), (1.75, 0.8, 0.8)
ON_CENTRE = (1, 2, 5)  # seeds whose embryo lies in the middle of the field


@pytest.fixture(scope="module")
def series():
    """Eight coarse frames of each seed."""
    return {seed: list(simulate_series(seed, timepoints=8, spacing=COARSE)) for seed in ON_CENTRE}


def same(one, two):
    arrays = ("image", "instances", "nuclei", "centres")
    return one.numbers == two.numbers and all(
        np.array_equal(getattr(one, a), getattr(two, a)) for a in arrays
    )


@pytest.mark.parametrize("seed", [3, (3, 1)])
def test_a_seed_fixes_every_voxel(seed):
    one, two, other = (list(simulate_series(s, timepoints=2, spacing=COARSE)) for s in (seed, seed, (3, 2)))
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    assert not any(same(a, b) for a, b in zip(one, other, strict=True))


def test_nuclei_grow_from_1_to_over_60_and_never_become_fewer(series):
    counts = {seed: [int(frame.instances.max()) for frame in frames] for seed, frames in series.items()}
    for seed in ON_CENTRE:
        assert np.abs(Recording.draw(np.random.default_rng(seed), spacing=COARSE).shift_um).max() < 8
        assert counts[seed][0] == 1
        assert counts[seed][-1] > 60
        assert np.all(np.diff(counts[seed]) >= 0)


def test_generations_set_where_a_series_ends():
    (*_, last) = simulate_series(1, timepoints=3, spacing=COARSE, generations=3.4)
    assert 7 <= last.instances.max() <= 10


def test_every_frame_is_labelled_without_gaps_one_connected_body_each(series):
    for frame in (frame for frames in series.values() for frame in frames):
        labels = np.unique(frame.instances)
        assert_array_equal(labels, np.arange(labels.size))
        assert len(set(frame.numbers)) == len(frame.numbers) == labels.size - 1
        assert_array_equal(frame.nuclei, np.where(frame.instances > 0, 255, 0))
        for label, box in enumerate(ndi.find_objects(frame.instances), 1):
            assert ndi.label(frame.instances[box] == label, np.ones((3, 3, 3)))[1] == 1


def test_identities_last_until_a_division(series):
    for frames in series.values():
        for before, after in pairwise(frames):
            born = set(after.numbers) - set(before.numbers)
            gone = set(before.numbers) - set(after.numbers)
            assert len(born) >= 2 * len(gone)
            assert all(number > max(before.numbers) for number in born)


def test_some_neighbours_touch_late_in_a_series(series):
    contacts = 0
    for last in (frames[-1].instances for frames in series.values()):
        for axis in range(3):
            a, b = np.moveaxis(last, axis, 0)[1:], np.moveaxis(last, axis, 0)[:-1]
            contacts += int(((a != b) & (a > 0) & (b > 0)).sum())
    assert contacts > 0


def test_centres_are_the_voxels_within_2_of_each_instances_centre_of_gravity(series):
    for frame in (frame for frames in series.values() for frame in frames):
        away = np.ones(frame.image.shape, bool)
        for label in range(1, frame.instances.max() + 1):
            away[tuple(np.rint(np.argwhere(frame.instances == label).mean(0)).astype(int))] = False
        assert (~away).sum() == frame.instances.max()
        assert_array_equal(frame.centres, np.where(ndi.distance_transform_edt(away) <= 2, 255, 0))


def test_on_the_native_grid_there_is_one_ball_of_33_voxels_per_nucleus():
    *_, last = simulate_series(1, timepoints=2, spacing=NATIVE, generations=3.4)
    balls, count = ndi.label(last.centres)
    assert count == last.instances.max() >= 7
    assert_array_equal(np.bincount(balls.ravel())[1:], 33)
    for label in range(1, count + 1):
        assert len(np.unique(balls[(last.instances == label) & (balls > 0)])) == 1


def test_a_ball_at_the_border_is_cut():
    balls = centre_balls(np.array([[0.4, 4.0, 4.0]]), (9, 9, 9))
    assert (balls > 0).sum() == (33 - 13) // 2 + 13
    assert balls.dtype == np.uint8
    assert not centre_balls(np.zeros((0, 3)), (9, 9, 9)).any()


@pytest.mark.parametrize("diameter", [1, 3, 5, 7])
def test_a_ball_holds_the_voxels_within_half_its_diameter(diameter):
    away = np.ones((11, 11, 11), bool)
    away[5, 5, 5] = False
    wanted = ndi.distance_transform_edt(away) <= diameter // 2
    assert_array_equal(centre_balls(np.full((1, 3), 5.0), (11, 11, 11), diameter=diameter) > 0, wanted)


@pytest.mark.parametrize(("spacing", "shape"), [(COARSE, (22, 48, 49)), (NATIVE, (51, 120, 122))])
def test_a_fixed_spacing_gives_the_shape_that_covers_the_field(spacing, shape):
    frame = next(simulate_series(0, timepoints=1, spacing=spacing))
    assert frame.spacing == spacing
    assert frame.image.shape == frame.instances.shape == frame.nuclei.shape == frame.centres.shape == shape
    assert frame.image.dtype == frame.instances.dtype == np.uint16
    assert frame.nuclei.dtype == frame.centres.dtype == np.uint8


def test_a_drawn_spacing_covers_the_field_and_differs_between_seeds():
    drawn = [Recording.draw(np.random.default_rng(seed)) for seed in range(20)]
    for recording in drawn:
        z, y, x = recording.spacing
        assert y == x
        assert 1.4 <= z / y <= 3.0
        assert np.abs(np.multiply(recording.shape, recording.spacing) - FIELD_UM).max() <= z / 2
    assert len({recording.spacing for recording in drawn}) == 20


def test_nuclei_are_brighter_than_background_in_every_frame(series):
    for frame in (frame for frames in series.values() for frame in frames):
        inside = frame.instances > 0
        assert frame.image[inside].mean() > frame.image[~inside].mean()


def test_outlines_at_16_cells_are_as_large_as_the_annotators():
    extents_um = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        recording = Recording.draw(rng, spacing=NATIVE)
        nuclei, bodies = Embryo(recording.growth, rng).nuclei_at(4.5)
        if len(nuclei) != 16:
            continue
        drawn = render(
            nuclei,
            bodies,
            shape=recording.shape,
            spacing=NATIVE,
            centre_um=np.array(recording.shape) * NATIVE / 2,
            body_radius_um=recording.growth.radius_um,
            settings=recording.optics,
            rng=rng,
        )
        boxes = ndi.find_objects(drawn.instances)
        assert len(boxes) == 16
        extents_um += [[(s.stop - s.start) * d for s, d in zip(box, NATIVE, strict=True)] for box in boxes]
    assert len(extents_um) >= 4 * 16
    z, y, x = np.median(extents_um, axis=0)
    assert 16.5 < z < 23
    assert 11.5 < y < 15
    assert 11.5 < x < 15


def test_the_shipped_weights_training_set_draws_what_it_drew():
    # every draw shifts those after it: the last ones stand for all
    recording = Recording.draw(np.random.default_rng((2020, 0, 5)))
    assert recording.shape == (50, 103, 105)
    assert recording.shift_um == pytest.approx([-8.69511329, -18.05264255, -2.76250304])
    assert recording.growth.condensation == pytest.approx(0.8915240199)
    assert recording.optics.haze_sigma_um == pytest.approx((7.9864368967, 5.3672188268, 5.3672188268))
    assert recording.camera.offset == pytest.approx(167.0010877709)
