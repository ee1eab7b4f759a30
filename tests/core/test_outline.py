"""Outlines at a fraction of the light of blurred balls in noise."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from qcanet_monai.core.instances.watershed import nuclei_from_probabilities
from qcanet_monai.core.outline import OUTLINES, outline_fraction, outline_threshold
from qcanet_monai.errors import InputError

SPACING = (2.0, 1.0, 1.0)
SHAPE = (24, 48, 48)


@pytest.fixture(scope="module")
def blurred():
    """Two blurred balls of unlike brightness: light relative to each, and labels."""
    grid = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING
    light = []
    for centre in ((24, 24, 12), (24, 24, 36)):
        ball = np.linalg.norm(grid - centre, axis=-1) < 9
        light.append(ndi.gaussian_filter(ball.astype(np.float32), (1.25, 1.2, 1.2)))
    labels = np.where(light[0] > 0.3, 1, np.where(light[1] > 0.3, 2, 0)).astype(np.uint16)
    return light, labels


def recorded(light, noise, brightness=(1.0, 4.0)):
    image = 200 + 300 * sum(b * one for b, one in zip(brightness, light, strict=True))
    return image + noise * np.random.default_rng(0).normal(size=SHAPE)


@pytest.mark.parametrize("noise", [0.0, 60.0])
@pytest.mark.parametrize("bias", [-0.12, 0.0, 0.12])
@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.65])
def test_the_outline_is_where_the_light_is_whatever_the_network_says(blurred, fraction, bias, noise):
    light, labels = blurred
    both = np.maximum(*light)
    probability = 1 / (1 + np.exp(-8 * (both - 0.3 - bias)))
    threshold = outline_threshold(
        probability, labels, recorded(light, noise), spacing=SPACING, fraction=fraction
    )
    volume = np.count_nonzero(probability >= threshold) / np.count_nonzero(both > fraction)
    assert volume == pytest.approx(1, abs=0.05)


def test_an_offset_and_a_scale_of_the_grey_values_change_nothing(blurred):
    light, labels = blurred
    probability = 1 / (1 + np.exp(-8 * (np.maximum(*light) - 0.3)))
    image = recorded(light, 5.0)
    one, other = (
        outline_threshold(probability, labels, grey, spacing=SPACING, fraction=0.4)
        for grey in (image, 1e4 + 30 * image)
    )
    assert one == pytest.approx(other)


def test_without_nuclei_or_without_light_nothing_moves(blurred):
    light, labels = blurred
    for found, image in ((0 * labels, recorded(light, 1.0)), (labels, np.full(SHAPE, 7))):
        assert outline_threshold(light[0], found, image, spacing=SPACING, fraction=0.4) == 0.5


def test_names_are_fractions_and_tighter_nuclei_are_smaller(blurred):
    light, _ = blurred
    region = 1 / (1 + np.exp(-8 * (np.maximum(*light) - 0.3)))[None].astype(np.float32)
    options = {"image": recorded(light, 10.0), "spacing": SPACING}
    volumes = [
        np.count_nonzero(nuclei_from_probabilities(region, outline=outline, **options).labels)
        for outline in (0.2, "annotator", "half", "0.6", "tight")
    ]
    assert volumes == sorted(volumes, reverse=True)
    assert len(set(volumes)) == 5
    assert nuclei_from_probabilities(region, **options).labels.max() == 2


@pytest.mark.parametrize("outline", ["loose", 0, 1, "1.2", -0.5, float("nan")])
def test_other_outlines_are_refused(outline):
    with pytest.raises(InputError, match="expected an outline of annotator, half, tight, or a fraction"):
        outline_fraction(outline)


def test_names_are_in_the_order_of_their_fractions():
    assert [outline_fraction(name) for name in OUTLINES] == sorted(OUTLINES.values())
