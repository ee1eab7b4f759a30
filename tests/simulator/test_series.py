"""Whole recordings: reproducible, growing, with consistent ground truth."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage as ndi

from qcanet_monai.simulator.lineage import Embryo
from qcanet_monai.simulator.parameters import Growth, Optics
from qcanet_monai.simulator.render import render
from qcanet_monai.simulator.series import balls, centre_balls, simulate_frame, simulate_series
from qcanet_monai.simulator.settings import Simulation, shipped
from qcanet_monai.simulator.shapes import Grid

COARSE, FINER, NATIVE = (4.0, 2.0, 2.0), (3.0, 1.5, 1.5), (1.75, 0.8, 0.8)
SEEDS = (1, 2, 5)
# the whole embryo in the field, all cells alive
COMPLETE = {
    "view": {"depth_um": 90, "width_um": 104, "shift_z_um": 0, "shift_y_um": 0, "shift_x_um": 0, "oval": 0},
    "growth": {"apoptosis": 0},
}
NOISELESS = {
    "kind": "scmos", "photons": 1e8, "gain": 1e-5, "dark": 0, "offset": 0, "read_noise": 0, "bits": 16
}  # fmt: skip


def settings(**groups):
    """Default settings with changes, on small and fast volumes."""
    view = {"lateral_um": 2, "anisotropy": 2, **groups.pop("view", {})}
    return Simulation.model_validate({"view": view, **groups})


@pytest.fixture(scope="module")
def series():
    """Simulate eight frames of each seed with the shipped settings."""
    complete = shipped().changed(COMPLETE)
    return {seed: [*simulate_series(seed, timepoints=8, spacing=FINER, settings=complete)] for seed in SEEDS}


def same(one, two):
    arrays = ("image", "instances", "nuclei", "centres")
    return (one.numbers, one.spacing) == (two.numbers, two.spacing) and all(
        np.array_equal(getattr(one, a), getattr(two, a)) for a in arrays
    )


@pytest.mark.parametrize("seed", [3, (3, 1)])
def test_a_seed_fixes_every_voxel(seed):
    one, two, other = (list(simulate_series(s, timepoints=2, spacing=COARSE)) for s in (seed, seed, (3, 2)))
    assert all(same(a, b) for a, b in zip(one, two, strict=True))
    assert not any(same(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ["embryo", "tissue"])
def test_a_seed_fixes_every_voxel_of_a_single_frame(kind):
    drawn = shipped().changed({"growth": {"kind": kind}})
    one, two, other = (simulate_frame((7, 0, s), spacing=COARSE, settings=drawn) for s in (4, 4, 5))
    assert same(one, two)
    assert not same(one, other)


def test_nuclei_grow_from_1_to_over_60_and_never_become_fewer(series):
    for frames in series.values():
        counts = [int(frame.instances.max()) for frame in frames]
        assert counts[0] == 1
        assert counts[-1] > 60
        assert np.all(np.diff(counts) >= 0)


def test_generations_set_where_a_series_ends():
    (*_, last) = simulate_series(1, timepoints=3, spacing=COARSE, generations=3.4, settings=settings())
    assert 7 <= last.instances.max() <= 10


def test_generations_before_the_views_first_frame_begin_the_series_there():
    late = settings(view={"first": 5, "last": 6})
    frames = list(simulate_series(1, timepoints=2, generations=1.5, settings=late))
    assert [frame.instances.max() for frame in frames] == [2, 2]


def test_the_view_says_from_when_to_when_a_series_is_recorded():
    for first, last, counts in ((0.3, 1.5, [1, 2]), (2.5, 3.5, [4, 8])):
        view = {"first": first, "last": last}
        frames = simulate_series(1, timepoints=2, settings=settings(view=view, growth={"asynchrony": 0}))
        assert [frame.instances.max() for frame in frames] == counts


def test_a_single_frame_lies_between_the_views_first_and_last_late_ones_more_often():
    drawn = settings(view={"first": 0.5, "last": 4.5}, growth={"asynchrony": 0})
    counts = [int(simulate_frame(seed, settings=drawn).instances.max()) for seed in range(100)]
    assert set(counts) == {1, 2, 4, 8, 16}
    assert counts.count(1) + counts.count(2) < counts.count(8) + counts.count(16)


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
    *_, last = simulate_series(1, timepoints=2, generations=3.4, settings=Simulation())
    assert last.spacing == pytest.approx(NATIVE)
    marked, count = ndi.label(last.centres)
    assert count == last.instances.max() >= 7
    assert_array_equal(np.bincount(marked.ravel())[1:], 33)
    for label in range(1, count + 1):
        assert len(np.unique(marked[(last.instances == label) & (marked > 0)])) == 1


def test_a_ball_at_the_border_is_cut():
    cut = centre_balls(np.array([[0.4, 4.0, 4.0]]), (9, 9, 9))
    assert (cut > 0).sum() == (33 - 13) // 2 + 13
    assert cut.dtype == np.uint8
    assert not centre_balls(np.zeros((0, 3)), (9, 9, 9)).any()


def test_balls_in_um_are_as_high_as_wide_and_hold_their_centres_voxel():
    spacing = (2.0, 0.5, 0.5)
    centres = np.array([[3.4, 20.3, 20.0], [7.0, 10.0, 10.0]])
    marked = balls(centres, (12, 40, 40), spacing=spacing, radius_um=3.0)
    z, y, x = np.indices((12, 40, 40))
    away = [
        np.sqrt(((z - c[0]) * 2) ** 2 + ((y - c[1]) * 0.5) ** 2 + ((x - c[2]) * 0.5) ** 2) for c in centres
    ]
    assert_array_equal(marked, np.where(np.minimum(*away) <= 3.0, 255, 0))
    tiny = balls(centres[:1], (12, 40, 40), spacing=spacing, radius_um=0.1)
    assert_array_equal(np.argwhere(tiny), [[3, 20, 20]])


@pytest.mark.parametrize("diameter", [1, 3, 5, 7])
def test_a_ball_holds_the_voxels_within_half_its_diameter(diameter):
    away = np.ones((11, 11, 11), bool)
    away[5, 5, 5] = False
    wanted = ndi.distance_transform_edt(away) <= diameter // 2
    assert_array_equal(centre_balls(np.full((1, 3), 5.0), (11, 11, 11), diameter=diameter) > 0, wanted)


@pytest.mark.parametrize(("spacing", "shape"), [(COARSE, (22, 48, 48)), (NATIVE, (51, 121, 121))])
def test_a_fixed_spacing_gives_the_shape_that_covers_the_field(spacing, shape):
    frame = next(simulate_series(0, timepoints=1, spacing=spacing, settings=Simulation()))
    assert frame.spacing == spacing
    assert frame.image.shape == frame.instances.shape == frame.nuclei.shape == frame.centres.shape == shape
    assert frame.image.dtype == frame.instances.dtype == np.uint16
    assert frame.nuclei.dtype == frame.centres.dtype == np.uint8


def test_a_drawn_spacing_covers_the_field_or_has_the_most_voxels_and_differs_between_seeds():
    drawn = shipped().changed({"view": {"most": 80, "first": 0.1, "last": 0.1}})
    spacings = set()
    for seed in range(12):
        view, frame = drawn.draw((seed,)).view, simulate_frame(seed, settings=drawn)
        assert frame.spacing == view.spacing
        extents = (view.depth_um, view.width_um, view.width_um)
        for voxels, step, extent in zip(frame.image.shape, frame.spacing, extents, strict=True):
            assert abs(voxels * step - extent) <= step / 2 or voxels == 80 < extent / step + 0.5
        spacings.add(frame.spacing)
    assert len(spacings) == 12


def test_a_given_shape_is_taken_whatever_the_views_extent():
    drawn = settings(view={"first": 0.5, "last": 0.5, "most": 30})
    whole, frame = (simulate_frame(1, shape=shape, settings=drawn) for shape in ((22, 48, 48), (12, 40, 36)))
    assert whole.image.shape == (22, 48, 48)
    assert frame.image.shape == (12, 40, 36)
    assert_array_equal(frame.instances, whole.instances[5:-5, 4:-4, 6:-6])


def test_most_caps_the_shape_and_keeps_the_middle():
    whole, cut = (
        simulate_frame(1, settings=settings(view={"most": most, "first": 0.5, "last": 0.5}))
        for most in (160, 30)
    )
    assert whole.image.shape == (22, 48, 48)
    assert cut.image.shape == (22, 30, 30)
    assert_array_equal(cut.instances, whole.instances[:, 9:-9, 9:-9])


def test_a_shift_moves_the_embryo_in_the_field():
    at_rest = settings(view={"first": 0.5, "last": 0.5})
    moved = at_rest.changed({"view": {"shift_z_um": 8, "shift_y_um": -12, "shift_x_um": 20}})
    one, two = simulate_frame(1, settings=at_rest), simulate_frame(1, settings=moved)
    assert_array_equal(np.roll(one.instances, (2, -6, 10), (0, 1, 2)), two.instances)


def test_nuclei_are_brighter_than_background_in_every_frame(series):
    for frame in (frame for frames in series.values() for frame in frames):
        inside = frame.instances > 0
        assert frame.image[inside].mean() > frame.image[~inside].mean()


@pytest.mark.parametrize("bleaching", [0.1, 0.5])
def test_bleaching_takes_a_share_of_the_light_per_generation_exponentially(bleaching):
    def frames(lost):
        drawn = settings(
            view={"first": 0, "last": 3}, camera=NOISELESS, optics={"bleaching": lost, "body": 0.2}
        )
        return [*simulate_series(1, timepoints=4, settings=drawn)]

    for time, (full, bleached) in enumerate(zip(frames(0.0), frames(bleaching), strict=True)):
        assert_array_equal(full.instances, bleached.instances)
        assert_allclose(bleached.image, full.image * np.exp(-bleaching * time), atol=3)
        assert full.image.max() > 1000


@pytest.mark.parametrize("kind", ["embryo", "tissue"])
def test_an_oval_empties_image_and_truth_outside_and_leaves_the_inside(kind):
    whole, cut = (
        simulate_frame(2, settings=settings(view={"first": 6, "last": 6, "oval": o}, growth={"kind": kind}))
        for o in (False, True)
    )
    _, ny, nx = cut.image.shape
    y, x = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    outside = y**2 + x**2 > 0.96**2
    for array in (cut.image, cut.instances, cut.nuclei, cut.centres):
        assert array.any()
        assert not array[:, outside].any()
    assert_array_equal(cut.image[:, ~outside], whole.image[:, ~outside])
    count = whole.instances.max() + 1
    inside = np.bincount(whole.instances[:, ~outside].ravel(), minlength=count)
    share = inside / np.bincount(whole.instances.ravel(), minlength=count)
    kept = (whole.instances > 0) & (share[whole.instances] > 0.05)  # slivers at the rim do not count
    assert_array_equal(cut.nuclei[:, ~outside] > 0, kept[:, ~outside])
    assert whole.image[:, outside].any()
    assert len(cut.numbers) == cut.instances.max()
    assert set(cut.numbers) <= set(whole.numbers)
    if kind == "tissue":
        assert len(cut.numbers) < len(whole.numbers)


def test_the_frames_of_a_tissue_differ_in_noise_alone():
    one, two = simulate_series(3, timepoints=2, settings=settings(growth={"kind": "tissue"}))
    assert one.instances.max() > 50
    assert one.numbers == two.numbers
    assert_array_equal(one.instances, two.instances)
    assert_array_equal(one.centres, two.centres)
    assert not np.array_equal(one.image, two.image)


def test_a_tissue_fills_the_field_and_leaves_a_part_empty_where_asked():
    full, part = (
        simulate_frame(3, settings=settings(growth={"kind": "tissue", "empty": empty}))
        for empty in (0.0, 0.6)
    )
    eighths = [half for z in (full.nuclei[:11], full.nuclei[11:]) for y in (z[:, :24], z[:, 24:])
               for half in (y[..., :24], y[..., 24:])]  # fmt: skip
    assert min((eighth > 0).mean() for eighth in eighths) > 0.5 * (full.nuclei > 0).mean()
    assert (part.nuclei > 0).mean() < 0.65 * (full.nuclei > 0).mean()


def test_a_drift_moves_the_truth_and_the_light_together():
    def frame(drift_um):
        growth = {"elongation": 0, "roughness": 0}
        view = {"first": 0.5, "last": 0.5}
        return simulate_frame(1, settings=settings(view=view, growth=growth, optics={"drift_um": drift_um}))

    still, drifting = frame(0.0), frame(2.0)

    def middles(frame):
        return np.array([ndi.center_of_mass(plane) for plane in frame.instances if plane.any()])

    assert np.ptp(middles(still), axis=0).max() < 1
    assert np.ptp(middles(drifting), axis=0).max() > 1.5
    inside = drifting.instances > 0
    assert drifting.image[inside].mean() > 1.5 * drifting.image[~inside].mean()


def outlines_um(growth, optics, seed):
    """Extents (n, 3) in µm of the outlines at generation 4.5, on BBBC050's grid."""
    shape = (51, 121, 121)
    middle = (np.array(shape) - 1) * NATIVE / 2
    grid = Grid(shape, NATIVE, middle, np.zeros((shape[0], 2)))
    drawn = render(Embryo(growth, (seed,)).at(4.5), grid, growth, optics, (seed,))
    return [
        [(s.stop - s.start) * step for s, step in zip(box, NATIVE, strict=True)]
        for box in ndi.find_objects(drawn.instances)
    ]


def test_outlines_at_16_cells_are_as_large_as_the_annotators():
    extents_um = []
    for seed in range(5):
        extents = outlines_um(Growth(), Optics(), seed)
        assert len(extents) == 16
        extents_um += extents
    z, y, x = np.median(extents_um, axis=0)
    assert 16.5 < z < 23
    assert 11.5 < y < 15
    assert 11.5 < x < 15


# after a change of distributions or simulator, copy the new values from the failure's message
PINNED = {
    "lateral_um": 0.6250946,
    "condensation": 0.7543252,
    "haze_axial_um": 12.15571,
    "offset": 113.3752,
    "slices": 76,
    "rows": 128,
    "nuclei": 21,
    "share_of_nuclei": 0.07998818,
    "mean_count": 115.8847,
}


def test_the_shipped_settings_draw_what_the_shipped_weights_were_trained_on():
    view, growth, optics, camera = shipped().draw((2020, 0, 5))
    frame = simulate_frame((2020, 0, 5))
    slices, rows, _ = frame.image.shape
    assert {
        "lateral_um": view.lateral_um,
        "condensation": growth.condensation,
        "haze_axial_um": optics.haze_axial_um,
        "offset": camera.offset,
        "slices": slices,
        "rows": rows,
        "nuclei": len(frame.numbers),
        "share_of_nuclei": float((frame.nuclei > 0).mean()),
        "mean_count": float(frame.image.mean()),
    } == pytest.approx(PINNED, rel=1e-3)
