"""From nuclei to light and truth, on scenes of one or two balls."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage as ndi

from qcanet_monai.simulate.lineage import Embryo, GrowthSettings, Nucleus, Phase
from qcanet_monai.simulate.render import OpticsSettings, render

SHAPE, SPACING = (40, 40, 40), (1.0, 1.0, 1.0)
PLAIN = {"haze": 0.0, "texture": 0.0, "nucleoli": 0.0, "attenuation": 0.0, "body": 0.0, "roughness": 0.0}


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


def scene(nuclei, polar_bodies=(), shape=SHAPE, spacing=SPACING, seed=0, **settings):
    return render(
        nuclei,
        polar_bodies,
        shape=shape,
        spacing=spacing,
        centre_um=np.array(shape) * spacing / 2,
        body_radius_um=15.0,
        settings=OpticsSettings(**{**PLAIN, **settings}),
        rng=np.random.default_rng(seed),
    )


def variances_um2(light, spacing):
    """Second moments of a light distribution along each axis."""
    found = []
    for axis, step in enumerate(spacing):
        line = light.sum(tuple({0, 1, 2} - {axis})).astype(float)
        place = np.arange(line.size) * step
        mean = (line * place).sum() / line.sum()
        found.append((line * (place - mean) ** 2).sum() / line.sum())
    return found


@pytest.mark.parametrize(("shape", "spacing"), [(SHAPE, SPACING), ((24, 50, 50), (2.0, 0.8, 0.8))])
def test_blur_widens_z_by_the_settings_variances(shape, spacing):
    light = scene([nucleus(1)], shape=shape, spacing=spacing, sigma_um=(3.2, 0.7, 0.7)).light
    z, y, x = variances_um2(light, spacing)
    assert z - x == pytest.approx(3.2**2 - 0.7**2, rel=0.1)
    assert y == pytest.approx(x, rel=0.02)
    assert x == pytest.approx(5**2 / 5 + 0.7**2, rel=0.1)  # a ball's own variance is r²/5


def test_the_outline_is_longer_along_z_than_across():
    instances = scene([nucleus(1)], sigma_um=(3.2, 0.7, 0.7)).instances
    z, y, x = (s.stop - s.start for s in ndi.find_objects(instances)[0])
    assert z > 1.25 * x
    assert y == x


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


def test_attenuation_fades_by_its_exponent_from_the_first_slice_to_the_last():
    plain = scene([nucleus(1, radius_um=9.0)], body=0.1).light
    for attenuation in (0.8, -0.8):
        light = scene([nucleus(1, radius_um=9.0)], body=0.1, attenuation=attenuation).light
        ratio = (light / plain).mean((1, 2))
        assert_allclose(ratio, np.exp(attenuation * np.linspace(-0.5, 0.5, 40)), rtol=1e-3)


def test_haze_spreads_light_and_keeps_its_sum():
    clear, hazy = (
        scene([nucleus(1)]).light,
        scene([nucleus(1)], haze=0.3, haze_sigma_um=(4.0, 4.0, 4.0)).light,
    )
    assert hazy.sum() == pytest.approx(clear.sum(), rel=0.01)
    assert hazy[20, 20, 20] < 0.9 * clear[20, 20, 20]
    assert hazy[20, 20, 32] > 10 * clear[20, 20, 32]


def test_the_body_glows_in_a_ball():
    light = scene([], body=0.1).light
    assert light[20, 20, 20] == pytest.approx(0.1, rel=0.02)
    assert light[0, 0, 0] < 0.001
    assert light[20, 20, 35] == pytest.approx(0.05, rel=0.02)  # half at its radius of 15 µm


def test_overlapping_nuclei_touch_and_share_no_voxel():
    pair = scene([nucleus(4, (0, 0, -4)), nucleus(9, (0, 0, 4))])
    assert pair.numbers == [4, 9]
    left, right = pair.instances == 1, pair.instances == 2
    assert (left & ndi.binary_dilation(right)).any()
    assert left[..., :19].any()
    assert not left[..., 22:].any()
    assert not right[..., :19].any()
    assert left.sum() == pytest.approx(right.sum(), rel=0.1)


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


def test_centres_are_the_centres_of_gravity_of_the_outlines():
    pair = scene([nucleus(1, (3, -7, 2)), nucleus(2, (0, 9, -3), 4.0)])
    for label, centre in enumerate(pair.centres_voxel, 1):
        assert_allclose(centre, np.argwhere(pair.instances == label).mean(0), atol=1e-9)
    assert_allclose(pair.centres_voxel[0], (23, 13, 22), atol=0.1)


def test_a_nucleus_in_metaphase_is_drawn_smaller_and_brighter():
    growing = Embryo(GrowthSettings(polar_bodies=0), np.random.default_rng(0))
    cycle = growing.cells[0].lifetime
    resting, dividing = (
        scene(growing.nuclei_at(age * cycle)[0], sigma_um=(1.8, 0.7, 0.7)) for age in (0.5, 0.97)
    )
    assert (dividing.instances > 0).sum() < 0.6 * (resting.instances > 0).sum()
    assert dividing.light.max() > 2 * resting.light.max()


def test_nucleoli_and_grain_texture_the_light_and_leave_the_outline():
    plain = scene([nucleus(1, radius_um=8.0)])
    textured = scene([nucleus(1, radius_um=8.0)], texture=0.4, nucleoli=5.0)
    core = ndi.binary_erosion(plain.instances > 0, iterations=6)
    assert textured.light[core].std() > 3 * plain.light[core].std()
    assert_array_equal(textured.instances, plain.instances)


def test_truth_and_light_have_the_volumes_shape_and_dtypes():
    drawn = scene([nucleus(1)], shape=(12, 20, 24), spacing=(2.0, 1.0, 1.0))
    assert drawn.light.shape == drawn.instances.shape == (12, 20, 24)
    assert drawn.light.dtype == np.float32
    assert drawn.instances.dtype == np.uint16
