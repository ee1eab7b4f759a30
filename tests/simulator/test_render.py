"""Rendering of light and ground truth, in scenes of one or two balls."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage as ndi

from qcanet_monai.simulator.lineage import Embryo
from qcanet_monai.simulator.nuclei import Nucleus, Phase, Population
from qcanet_monai.simulator.parameters import Growth, Optics
from qcanet_monai.simulator.render import illuminated, render
from qcanet_monai.simulator.shapes import Grid

SHAPE, SPACING = (40, 40, 40), (1.0, 1.0, 1.0)
PLAIN = {"haze": 0.0, "texture": 0.0, "nucleoli": 0.0, "attenuation": 0.0, "body": 0.0}
SHARP = {"axial_um": 0.1, "lateral_um": 0.1}  # below the grid's resolution


def nucleus(number, centre_um=(0, 0, 0), radius_um=5.0, concentration=1.0):
    return Nucleus(
        number=number,
        parent=0,
        phase=Phase.INTERPHASE,
        centre_um=np.array(centre_um, float),
        semi_axes_um=np.full(3, float(radius_um)),
        rotation=np.eye(3),
        concentration=concentration,
        texture_seed=7,
    )


def scene(nuclei, others=(), *, shape=SHAPE, spacing=SPACING, seed=0, growth=None, drift=None, **optics):
    settings = Optics(**{**PLAIN, **optics})
    drawn = render(
        Population([*nuclei], [*others]),
        Grid(
            shape,
            spacing,
            np.array(shape) * spacing / 2,
            np.zeros((shape[0], 2)) if drift is None else np.array(drift, float),
        ),
        Growth(**{"roughness": 0.0, "radius_um": 15.0, **(growth or {})}),
        settings,
        (seed,),
    )
    light = drawn.light * illuminated(shape, settings, np.random.default_rng(seed))
    return replace(drawn, light=light)


def variances_um2(light, spacing):
    found = []
    for axis, step in enumerate(spacing):
        line = light.sum(tuple({*range(light.ndim)} - {axis})).astype(float)
        place = np.arange(line.size) * step
        mean = (line * place).sum() / line.sum()
        found.append((line * (place - mean) ** 2).sum() / line.sum())
    return found


@pytest.mark.parametrize(("shape", "spacing"), [(SHAPE, SPACING), ((24, 50, 50), (2.0, 0.8, 0.8))])
def test_blur_widens_z_by_the_settings_variances(shape, spacing):
    light = scene([nucleus(1)], shape=shape, spacing=spacing, axial_um=3.2, lateral_um=0.7).light
    z, y, x = variances_um2(light, spacing)
    assert z - x == pytest.approx(3.2**2 - 0.7**2, rel=0.1)
    assert y == pytest.approx(x, rel=0.02)
    assert x == pytest.approx(5**2 / 5 + 0.7**2, rel=0.1)  # a ball's own variance is r²/5


def test_the_outline_is_longer_along_z_than_across():
    instances = scene([nucleus(1)], axial_um=3.2, lateral_um=0.7).instances
    z, y, x = (s.stop - s.start for s in ndi.find_objects(instances)[0])
    assert z > 1.25 * x
    assert y == x


@pytest.mark.parametrize("radius", [5.0, 8.0])
def test_without_blur_the_outline_has_the_balls_volume(radius):
    # the outline lies at half of the soft edge, at the ball's surface
    instances = scene([nucleus(1, (0.3, 0.2, 0.4), radius)], outline=0.5, **SHARP).instances
    assert (instances > 0).sum() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)


def test_a_lower_share_of_the_peak_outlines_more():
    volumes = [(scene([nucleus(1)], outline=share).instances > 0).sum() for share in (0.15, 0.3, 0.5, 0.7)]
    assert np.all(np.diff(volumes) < 0)


def test_the_outline_is_the_same_whatever_the_brightness():
    dim, bright = (scene([nucleus(1, concentration=c)]).instances for c in (0.1, 5.0))
    assert_array_equal(dim, bright)


def test_polar_bodies_glow_and_are_absent_from_the_truth():
    body = nucleus(0, (0, 0, 11), 3.0, concentration=2.0)
    alone, both = scene([nucleus(5, (0, 0, -8))]), scene([nucleus(5, (0, 0, -8))], [body])
    assert both.light[20, 20, 31] > 0.5
    assert alone.light[20, 20, 31] < 1e-3
    assert both.numbers == [5]
    assert_array_equal(both.instances, alone.instances)
    assert both.instances.max() == 1
    assert both.instances[20, 20, 31] == 0
    assert both.centres_voxel.shape == (1, 3)
    only = scene([], [body])
    assert not only.instances.any()
    assert only.centres_voxel.shape == (0, 3)
    assert only.light.max() > 0.5


def test_light_is_in_units_of_an_interphase_nucleus():
    one, three = (scene([nucleus(1, radius_um=8.0, concentration=c)]).light for c in (1.0, 3.0))
    assert one[20, 20, 20] == pytest.approx(1, abs=0.05)
    assert_allclose(three, 3 * one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("attenuation", [0.8, -0.8])
def test_attenuation_is_the_logarithm_of_the_last_slices_brightness_over_the_firsts(attenuation):
    plain, light = (
        scene([nucleus(1, radius_um=9.0)], body=0.1, attenuation=a).light for a in (0, attenuation)
    )
    ratio = (light / plain).mean((1, 2))
    assert_allclose(ratio, np.exp(attenuation * np.linspace(-0.5, 0.5, 40)), rtol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_slopes_evenly_across_the_field_alike_in_every_slice(seed):
    plain, sloped = (
        scene([], body=0.1, growth={"kind": "tissue"}, gradient=g, seed=seed).light + np.zeros(SHAPE)
        for g in (0.0, 0.4)
    )
    ratio = sloped / plain
    assert_allclose(ratio, np.broadcast_to(ratio[0], SHAPE), rtol=1e-5)
    y, x = (np.diff(ratio[0], axis=axis) for axis in (0, 1))
    assert np.ptp(y) < 1e-4
    assert np.ptp(x) < 1e-4
    # half a field is 19.5 voxels; a corner has sqrt(2) times the value of an edge's middle
    assert 19.5 * np.hypot(y.mean(), x.mean()) == pytest.approx(0.4 / np.sqrt(2), rel=1e-3)
    assert ratio.mean() == pytest.approx(1)


def test_the_gradient_has_another_direction_in_another_recording():
    lights = [
        scene([], body=0.1, growth={"kind": "tissue"}, gradient=0.4, seed=seed).light for seed in (0, 1)
    ]
    assert not np.allclose(*lights)


@pytest.mark.parametrize("attenuation", [-1.0, 1.0])
def test_scattering_blurs_sideways_at_the_dim_end_of_z(attenuation):
    pillar = [nucleus(i, (z, 0, 0), 4.0) for i, z in enumerate(range(-24, 25, 4), 1)]
    clear, scattered = (scene(pillar, attenuation=attenuation, scattering_um=s).light for s in (0.0, 3.0))
    share = np.linspace(0, 1, 40) if attenuation < 0 else np.linspace(1, 0, 40)
    for z in range(40):
        for before, after in zip(
            *(variances_um2(light[z], (1, 1)) for light in (clear, scattered)), strict=True
        ):
            assert after - before == pytest.approx(share[z] * 3.0**2, abs=0.45)
    assert_allclose(scattered.sum((1, 2)), clear.sum((1, 2)), rtol=0.01)


def test_scattering_leaves_the_truth():
    clear, scattered = (scene([nucleus(1)], scattering_um=s) for s in (0.0, 3.0))
    assert_array_equal(clear.instances, scattered.instances)


def test_haze_spreads_light_and_keeps_its_sum():
    clear = scene([nucleus(1)]).light
    hazy = scene([nucleus(1)], haze=0.3, haze_axial_um=4.0, haze_lateral_um=4.0).light
    assert hazy.sum() == pytest.approx(clear.sum(), rel=0.01)
    assert hazy[20, 20, 20] < 0.9 * clear[20, 20, 20]
    assert hazy[20, 20, 32] > 10 * clear[20, 20, 32]


def test_the_haze_has_its_own_widths_along_z_and_across():
    sharp = {"axial_um": 0.5, "lateral_um": 0.5, "haze_axial_um": 5.0, "haze_lateral_um": 3.0}
    clear, hazy = (
        variances_um2(scene([nucleus(1, radius_um=2.0)], haze=haze, **sharp).light, SPACING)
        for haze in (0.0, 0.5)
    )
    z, y, x = np.subtract(hazy, clear)
    # cutting the kernels at 2.5 deviations takes a tenth of their variance
    assert z == pytest.approx(0.5 * (0.9 * 5.0**2 - 0.5**2), rel=0.08)
    assert x == pytest.approx(0.5 * (0.9 * 3.0**2 - 0.5**2), rel=0.08)
    assert x == pytest.approx(y, rel=1e-4)


def test_the_body_glows_in_a_ball():
    light = scene([], body=0.1).light
    assert light[20, 20, 20] == pytest.approx(0.1, rel=0.02)
    assert light[0, 0, 0] < 0.001
    assert light[20, 20, 35] == pytest.approx(0.05, rel=0.02)  # half, at its radius of 15 µm


def test_a_tissue_glows_everywhere():
    assert_allclose(scene([], body=0.1, growth={"kind": "tissue"}).light, 0.1, rtol=1e-6)


def test_overlapping_nuclei_touch_and_share_no_voxel():
    pair = scene([nucleus(4, (0, 0, -4)), nucleus(9, (0, 0, 4))])
    assert pair.numbers == [4, 9]
    left, right = pair.instances == 1, pair.instances == 2
    assert (left & ndi.binary_dilation(right)).any()
    assert left[..., :19].any()
    assert not left[..., 22:].any()
    assert not right[..., :19].any()
    assert left.sum() == pytest.approx(right.sum(), rel=0.1)


def test_where_nuclei_overlap_each_voxel_holds_the_stain_of_the_one_it_lies_deeper_in():
    light = scene([nucleus(4, (0, 0, -3)), nucleus(9, (0, 0, 3), concentration=2.0)], **SHARP).light
    assert_allclose(light[20, 20, 14:20], 1)
    assert_allclose(light[20, 20, 21:27], 2)


def test_where_outlines_meet_the_brighter_nucleus_takes_the_voxel_in_whatever_order():
    dim, bright = nucleus(1, (-3.9, 0, 0)), nucleus(2, (4.2, 0, 0), concentration=3.0)
    one, two = scene([dim, bright]).instances, scene([bright, dim]).instances
    assert_array_equal(one == 1, two == 2)
    assert_array_equal(one == 2, two == 1)
    assert (one == 2).sum() > 1.1 * (one == 1).sum()


def test_a_nucleus_cut_by_the_border_stays_and_one_outside_leaves_no_gap():
    cut = scene([nucleus(1, (0, 0, -60)), nucleus(2, (-20, 0, 0)), nucleus(3)])
    assert cut.numbers == [2, 3]
    assert_array_equal(np.unique(cut.instances), [0, 1, 2])
    assert cut.instances[0, 20, 20] == 1
    assert cut.instances[20, 20, 20] == 2


@pytest.mark.parametrize(("height", "outlined"), [(1.5, False), (2.5, False), (3.2, True), (10.0, True)])
def test_a_nucleus_of_which_under_5_percent_lie_in_the_field_glows_and_is_not_outlined(height, outlined):
    # a cap of height h of a ball of radius 10 has h² (30 - h) / 4000 of the volume: 5 % at 2.7;
    # the field's first voxel extends half a voxel beyond its centre
    found = scene([nucleus(1, (-20 - 10 + height - 0.5, 0, 0), 10.0)])
    assert found.light[0].max() > 0.1
    assert found.numbers == ([1] if outlined else [])
    assert bool(found.instances.any()) is outlined


def test_the_rest_of_a_volume_goes_unseen_along_every_axis():
    for axis in range(3):
        shift = np.zeros(3)
        shift[axis] = 20 + 8.5
        assert scene([nucleus(1, shift, 10.0)]).numbers == []
        shift[axis] = 20 + 5.0
        assert scene([nucleus(1, shift, 10.0)]).numbers == [1]


def test_centres_are_the_centres_of_gravity_of_the_outlines():
    pair = scene([nucleus(1, (3, -7, 2)), nucleus(2, (0, 9, -3), 4.0)])
    for label, centre in enumerate(pair.centres_voxel, 1):
        assert_allclose(centre, np.argwhere(pair.instances == label).mean(0), atol=1e-9)
    assert_allclose(pair.centres_voxel[0], (23, 13, 22), atol=0.1)


def test_a_scene_within_a_mask_keeps_the_light_and_the_truth_inside():
    left, right = nucleus(4, (0, 0, -9)), nucleus(9, (0, 0, 9))
    both = scene([left, right])
    inside = np.zeros((1, 40, 40), bool)
    inside[..., 29:] = True
    cut = both.within(inside)
    assert cut.light is both.light
    assert cut.numbers == [9]
    assert_array_equal(cut.instances, np.where(inside & (both.instances == 2), 1, 0))
    assert_allclose(cut.centres_voxel, [np.argwhere(cut.instances == 1).mean(0)])


def test_drift_moves_light_and_truth_slice_by_slice():
    drift = np.stack([np.linspace(-3, 3, 40), np.linspace(4, -4, 40)], 1)
    drifted = scene([nucleus(1, radius_um=8.0)], drift=drift, **SHARP)
    for z in (14, 20, 26):
        for plane in (drifted.light[z], drifted.instances[z] > 0):
            assert_allclose(ndi.center_of_mass(plane), 20 + drift[z], atol=0.2)


def test_a_nucleus_in_metaphase_is_drawn_smaller_and_brighter():
    growing = Embryo(Growth(polar_bodies=0), (0,))
    cycle = growing.cells[0].lifetime
    resting, dividing = (
        scene(growing.at(age * cycle).nuclei, axial_um=1.8, lateral_um=0.7) for age in (0.5, 0.97)
    )
    assert (dividing.instances > 0).sum() < 0.6 * (resting.instances > 0).sum()
    assert dividing.light.max() > 2 * resting.light.max()


def test_nucleoli_and_grain_texture_the_light_and_leave_the_outline():
    plain = scene([nucleus(1, radius_um=8.0)])
    textured = scene([nucleus(1, radius_um=8.0)], texture=0.4, nucleoli=5.0)
    core = ndi.binary_erosion(plain.instances > 0, iterations=6)
    assert textured.light[core].std() > 3 * plain.light[core].std()
    assert_array_equal(textured.instances, plain.instances)


def test_grains_are_as_large_as_asked():
    def neighbours(grain_um):
        light = scene([nucleus(1, radius_um=12.0)], texture=0.4, grain_um=grain_um, **SHARP).light
        cube = np.log(light[14:27, 14:27, 14:27])
        return np.corrcoef(cube[..., 1:].ravel(), cube[..., :-1].ravel())[0, 1]

    assert neighbours(0.5) < neighbours(1.0) < neighbours(2.0)


def test_truth_and_light_have_the_volumes_shape_and_dtypes():
    drawn = scene([nucleus(1)], shape=(12, 20, 24), spacing=(2.0, 1.0, 1.0))
    assert drawn.light.shape == drawn.instances.shape == (12, 20, 24)
    assert drawn.light.dtype == np.float32
    assert drawn.instances.dtype == np.uint16


def test_a_nucleus_ends_where_its_light_falls_to_the_outline():
    drawn = scene([nucleus(1, (0, 0, -7)), nucleus(2, (0, 0, 8), concentration=3.0)], outline=0.4)
    assert_array_equal(drawn.height > 0, drawn.instances > 0)
    peaks = [drawn.height[drawn.instances == label].max() for label in (1, 2)]
    assert_allclose(peaks, 0.6)
    assert drawn.height.min() == pytest.approx(-0.4)


def test_specks_and_what_lies_outside_the_field_have_no_height():
    drawn = scene([nucleus(1, (0, 0, -9))], [nucleus(0, (0, 0, 9))])
    assert_allclose(drawn.height, scene([nucleus(1, (0, 0, -9))]).height)
    inside = np.arange(40) < 12
    cut = drawn.within(inside)
    assert_array_equal(cut.height > 0, cut.instances > 0)
    assert_array_equal(cut.instances > 0, (drawn.instances > 0) & inside)
