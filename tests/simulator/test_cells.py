"""Membrane-stained cells: a tessellation against slow search and closed forms."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage as ndi

from qcanet_monai.errors import InputError
from qcanet_monai.simulator.cells import Nearest, Seeds, cells, patches, seeded, tessellated, walls
from qcanet_monai.simulator.parameters import Growth, Optics
from qcanet_monai.simulator.series import simulate_frame, simulate_series
from qcanet_monai.simulator.settings import Simulation, read_simulation
from qcanet_monai.simulator.shapes import Grid

SHAPE, SPACING = (20, 44, 40), (1.0, 0.5, 0.5)
EVEN = {"brightness_spread": 0.0, "size_spread": 0.0, "elongation": 0.0, "roughness": 0.0}
SHARP = {
    "lateral_um": 0.01, "axial_um": 0.01, "haze": 0, "body": 0, "membrane_spread": 0, "membrane_holes": 0
}  # fmt: skip
UNBOUND = {"kind": "cells", "diameter_um": 6.0}


def grid(shape=SHAPE, spacing=SPACING, drift=0.0):
    steps = np.full((shape[0], 2), drift) * np.arange(shape[0])[:, None]
    return Grid(shape, spacing, (np.array(shape) - 1) * spacing / 2, steps)


def growth(**changes):
    return Growth(**{**UNBOUND, **EVEN, **changes})


def drawn(seed=0, on=None, optics=None, **changes):
    return cells(on or grid(), growth(**changes), Optics(**{**SHARP, **(optics or {})}), (seed,))


def extent(on):
    return np.array(on.shape) * on.spacing


def places_um(on):
    axes = [np.arange(n) * d - c for n, d, c in zip(on.shape, on.spacing, on.centre_um, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def slowly(seeds, on):
    places = places_um(on) @ seeds.stretch.T
    powers = ((places[..., None, :] - seeds.places) ** 2).sum(-1) - seeds.squares
    order = np.argsort(powers, axis=-1)[..., :2]
    least, other = np.moveaxis(np.take_along_axis(powers, order, -1), -1, 0)
    return Nearest(order[..., 0], order[..., 1], (other - least).astype(np.float32))


def between(one, two, stretch=None):
    points = np.array([one, two], float)
    return Seeds(points, np.zeros(2), np.ones(2, bool), np.eye(3) if stretch is None else stretch)


def borders(labels):
    return (ndi.grey_dilation(labels, size=3) != labels) | (ndi.grey_erosion(labels, size=3) != labels)


@pytest.mark.parametrize("seed", range(3))
def test_the_two_nearest_points_are_those_of_a_slow_search(seed):
    on, of = grid(), growth(size_spread=0.5, elongation=0.3)
    seeds = seeded(of, extent(on), (seed,))
    fast, slow = tessellated(seeds, on, of, (seed,)), slowly(seeds, on)
    near = slow.gap > 1e-3
    assert near.mean() > 0.99
    assert_array_equal(fast.first[near], slow.first[near])
    walled = near & (slow.gap < 2 * 5.2 * 1.0)  # a wall within about 1 µm
    assert (fast.second[walled] == slow.second[walled]).mean() > 0.999  # two second-nearest points may tie
    assert_allclose(fast.gap[walled], slow.gap[walled], atol=2e-3)


def test_warped_walls_still_find_all_cells_that_a_wider_search_finds(monkeypatch):
    on, of = grid(), growth(size_spread=0.5, elongation=0.25, roughness=0.16)
    seeds = seeded(of, extent(on), (0,))
    usual = tessellated(seeds, on, of, (0,))
    monkeypatch.setattr("qcanet_monai.simulator.cells._REACH", 3.0)
    wider = tessellated(seeds, on, of, (0,))
    assert_array_equal(usual.first, wider.first)
    assert_array_equal(usual.first[..., 0], tessellated(seeds, on, of, (0,)).first[..., 0])
    straight = tessellated(seeds, on, growth(size_spread=0.5, elongation=0.25), (0,))
    assert 0.03 < (usual.first != straight.first).mean() < 0.5


def test_coarser_voxels_show_the_same_cells_where_their_centres_meet():
    fine, coarse = grid((21, 43, 41)), grid((11, 15, 21), (2.0, 1.5, 1.0))
    of = growth(elongation=0.2)
    seeds = seeded(of, extent(fine), (3,))
    assert_array_equal(
        tessellated(seeds, fine, of, (3,)).first[::2, ::3, ::2], tessellated(seeds, coarse, of, (3,)).first
    )


@pytest.mark.parametrize("thick", [0.2, 1.0, 3.0])
@pytest.mark.parametrize(("axis", "area"), [(0, 22 * 20), (1, 20 * 20), (2, 20 * 22)])
def test_a_wall_holds_its_area_times_its_thickness_whatever_the_voxels(axis, area, thick):
    on, place = grid(), np.zeros(3)
    place[axis] = 2.5
    seeds = between(-place + 0.13, place + 0.13)
    stain = walls(seeds, slowly(seeds, on), on, growth(membrane_um=thick))
    assert stain.max() <= 1
    assert stain.sum() * np.prod(SPACING) == pytest.approx(area * thick, rel=1e-4)


def test_a_slanted_wall_in_a_stretched_tissue_is_as_thick_as_asked():
    on = grid((40, 40, 40), (0.5, 0.5, 0.5))
    turn = np.linalg.qr(np.arange(9).reshape(3, 3) + np.eye(3))[0]
    stretch = turn @ np.diag([0.5, 1.0, 2.0]) @ turn.T
    direction = np.array([0.3, 1.0, 0.2])
    # within the field, the wall is normal to stretch @ direction and contains its middle
    seeds = between(-2 * direction, 2 * direction, stretch)
    stain = walls(seeds, slowly(seeds, on), on, growth(membrane_um=1.0))
    normal = stretch @ direction / np.linalg.norm(stretch @ direction)
    distance = np.abs(places_um(on) @ normal)
    assert stain[distance < 0.2].min() == pytest.approx(1, abs=1e-5)
    assert stain[distance > 0.8].max() == 0
    assert_allclose(stain[np.abs(distance - 0.5) < 0.01], 0.5, atol=0.03)


def test_membranes_are_bright_and_no_cell_has_any_inside():
    scene = drawn(membrane_um=0.4)
    depth = ndi.distance_transform_edt(~borders(scene.instances), sampling=SPACING)
    inside = scene.instances > 0
    inside[[0, -1]] = inside[:, [0, 1, -2, -1]] = inside[..., [0, 1, -2, -1]] = False  # walls out of view
    assert scene.light[(depth > 0) & inside].max() < 0.6
    assert scene.light[(depth > 1.0) & inside].max() == 0
    assert scene.light[(depth == 0) & inside].mean() > 0.25
    glowing = drawn(membrane_um=0.4, optics={"body": 0.2, "texture": 0.0})
    assert glowing.light[(depth > 1.0) & inside].min() == pytest.approx(0.2)


def test_a_wall_that_the_optics_resolve_or_blur_has_a_brightness_of_about_1():
    steep = {"haze": 0.0, "lateral_um": 0.6, "axial_um": 0.1}
    for optics, thick in (({}, 2.0), (steep, 2.0), (steep, 0.3)):
        light = drawn(
            on=grid((6, 60, 60), (1.0, 0.4, 0.4)), membrane_um=thick, diameter_um=12.0, optics=optics
        ).light
        ridges = light[2] == ndi.grey_dilation(light[2], size=5)
        assert np.median(light[2][ridges & (light[2] > 0.3)]) == pytest.approx(1, abs=0.25)


def test_every_voxel_belongs_to_a_cell_but_for_slivers_at_the_fields_faces():
    labels = np.pad(drawn(size_spread=0.5, roughness=0.1).instances, 1, constant_values=0)
    missing, count = ndi.label(labels[1:-1, 1:-1, 1:-1] == 0)
    assert (missing > 0).mean() < 0.02
    faces = np.ones(missing.shape, bool)
    faces[1:-1, 1:-1, 1:-1] = False
    assert set(np.unique(missing[faces])) >= set(range(1, count + 1))


def test_labels_count_the_cells_from_1_and_each_is_in_one_piece():
    scene = drawn(size_spread=0.4, elongation=0.2, roughness=0.12)
    labels = scene.instances
    assert len(scene.numbers) == labels.max() == len(np.unique(labels[labels > 0]))
    for label, box in enumerate(ndi.find_objects(labels), 1):
        pieces, count = ndi.label(labels[box] == label)
        sizes = np.bincount(pieces.ravel())[1:]
        assert sizes.max() > 0.97 * sizes.sum(), (label, count)


@pytest.mark.parametrize("diameter", [5.0, 8.0])
@pytest.mark.parametrize("elongation", [0.0, 0.25])
def test_there_are_as_many_cells_as_balls_of_the_diameters_volume(diameter, elongation):
    of, box = growth(diameter_um=diameter, elongation=elongation), np.array([40.0, 60.0, 50.0])
    for seed in range(3):
        seeds = seeded(of, box, (seed,))
        inside = (np.abs(seeds.places @ np.linalg.inv(seeds.stretch).T) < box / 2).all(1)
        assert inside.sum() * np.pi / 6 * diameter**3 == pytest.approx(np.prod(box), rel=0.12)
        assert np.linalg.det(seeds.stretch) == pytest.approx(1)


def test_a_spread_of_sizes_spreads_the_cells_volumes():
    def spread(size_spread):
        scene = drawn(on=grid((40, 48, 48), (1.0, 0.9, 0.9)), size_spread=size_spread)
        volumes = np.bincount(scene.instances[3:-3, 4:-4, 4:-4].ravel())[1:]
        return np.std(np.log(volumes[volumes > 60]))

    assert spread(0.5) > 1.3 * spread(0.0)


def test_a_plane_leaves_the_share_empty_and_dark_with_a_membrane_along_it():
    on = grid((24, 60, 60))
    scene = drawn(on=on, empty=0.5, membrane_um=1.0)
    pieces, _ = ndi.label(scene.instances == 0)
    empty = pieces == np.bincount(pieces[pieces > 0]).argmax()
    assert 0.3 < empty.mean() < 0.7
    far = ndi.distance_transform_edt(empty, sampling=SPACING)
    core = (slice(2, -2), slice(3, -3), slice(3, -3))  # a wall just out of view reaches in
    assert scene.light[core][far[core] > 2.0].max() == 0
    skin = ~empty & (ndi.distance_transform_edt(~empty, sampling=SPACING) <= 0.5)
    assert (scene.light[skin] > 0.1).mean() > 0.9


def test_cavities_are_balls_without_cells():
    whole, hollow = (drawn(on=grid((40, 40, 40), (0.8, 0.8, 0.8)), cavity=c, seed=2) for c in (0.0, 0.8))
    assert (whole.instances > 0).mean() > 0.97
    assert 0.3 < (hollow.instances > 0).mean() < 0.97


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_holes_leave_that_share_of_the_membrane_unstained(share):
    on = grid((30, 80, 80))
    found = [
        (patches(on, Optics(membrane_holes=share, membrane_patch_um=0.7), (seed,)) < 0.5).mean()
        for seed in range(4)
    ]
    assert np.mean(found) == pytest.approx(share, abs=0.03)


def test_without_holes_and_spread_the_stain_is_even_and_with_a_spread_as_wide_as_asked():
    assert_array_equal(patches(grid(), Optics(membrane_holes=0, membrane_spread=0), (0,)), 1)
    stain = patches(grid(), Optics(membrane_holes=0, membrane_spread=0.4, membrane_patch_um=0.7), (0,))
    assert np.log(stain).std() == pytest.approx(0.4, abs=0.05)


def test_holes_darken_membranes_and_change_no_cell():
    small = {"membrane_patch_um": 0.5}
    intact, torn = (drawn(membrane_um=0.5, optics={"membrane_holes": h, **small}) for h in (0.0, 0.4))
    assert_array_equal(intact.instances, torn.instances)
    assert torn.light.sum() == pytest.approx(0.6 * intact.light.sum(), rel=0.06)
    assert (torn.light[intact.light > 0.3] == 0).mean() > 0.25
    assert (torn.light <= intact.light + 1e-6).all()


def test_a_drift_moves_slices_of_cells_sideways():
    still, drifting = (drawn(on=grid((6, 40, 40), (1.0, 1.0, 1.0), drift)) for drift in (0.0, 1.0))
    for z in range(6):
        moved = drifting.instances[z, z:, z:] > 0
        assert moved.shape == (40 - z, 40 - z)
        crossed = borders(drifting.instances)[z, z:, z:] == borders(still.instances)[z, : 40 - z, : 40 - z]
        assert crossed.mean() > 0.85


def test_more_cells_than_can_be_told_apart_are_refused_with_advice():
    with pytest.raises(InputError, match=r"at most 32768 cells.*raise growth\.diameter_um"):
        seeded(growth(diameter_um=1.0), np.array([50.0, 50.0, 50.0]), (0,))


SMALL = {"view": {"depth_um": 12, "width_um": 20, "most": 40}}


def test_a_seed_fixes_every_voxel_and_frames_differ_in_noise_alone():
    of = read_simulation("cells").changed(SMALL)
    one, two = simulate_series(4, timepoints=2, settings=of)
    again, other = next(simulate_series(4, timepoints=1, settings=of)), simulate_frame(5, settings=of)
    assert_array_equal(one.image, again.image)
    assert_array_equal(one.instances, two.instances)
    assert one.numbers == two.numbers
    assert not np.array_equal(one.image, two.image)
    assert one.instances.shape != other.instances.shape or (one.instances != other.instances).any()
    assert set(one.parents) == {0}


def test_a_frame_marks_all_of_the_cells_and_their_centres_of_gravity():
    frame = simulate_frame(1, settings=read_simulation("cells").changed(SMALL))
    assert_array_equal(frame.nuclei, np.where(frame.instances > 0, 255, 0))
    middles = ndi.center_of_mass(
        np.ones(frame.image.shape), frame.instances, range(1, len(frame.numbers) + 1)
    )
    assert_allclose(frame.centres_voxel, middles)
    assert (frame.centres[tuple(np.rint(frame.centres_voxel).astype(int).T)] == 255).all()


@pytest.mark.parametrize("seed", range(4))
def test_shipped_cells_are_10_to_36_voxels_across_in_at_most_112_voxels(seed):
    view, of, *_ = read_simulation("cells").draw((seed,))
    assert 10 <= of.diameter_um / view.lateral_um <= 36
    assert view.most == 112
    assert of.kind == "cells"


def test_a_share_of_tissues_is_refused_where_no_nuclei_are_drawn():
    mixed = Simulation.model_validate({"growth": {"kind": {"choices": {"embryo": 1, "spindle": 1}}}})
    for of, named in (
        (read_simulation("cells"), "cells"),
        (read_simulation("spindle"), "spindle"),
        (mixed, "spindle"),
    ):
        assert of.with_tissue(None) is of
        with pytest.raises(InputError, match=f"settings that draw {named}"):
            of.with_tissue(0.3)
