"""U-Net's border weights against their formula."""

import numpy as np
import pytest
from helpers import ball, distance_transforms
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial import cKDTree

from qcanet_monai.core.targets.border_weights import border_weights
from qcanet_monai.errors import InputError

SPACING = (1.5, 0.8, 0.5)
UNIT = (1.0, 1.0, 1.0)


def balls(shape, centres_um, radii_um, spacing):
    """Return labels of balls; shared voxels go to the first ball."""
    labels = np.zeros(shape, np.uint16)
    for number, (centre, radius) in enumerate(zip(centres_um, radii_um, strict=True), 1):
        labels[ball(shape, centre, radius, spacing) & (labels == 0)] = number
    return labels


def by_all_pairs(labels, spacing, w0, sigma):
    """Evaluate eq. 2 literally, from every background voxel to every object."""
    foreground = (labels > 0).mean()
    weights = np.where(
        labels > 0, np.clip(0.5 / foreground, 0.1, 10), np.clip(0.5 / (1 - foreground), 0.1, 10)
    )
    background = np.argwhere(labels == 0) * spacing
    distances = np.sort(
        [
            cKDTree(np.argwhere(labels == i) * spacing).query(background)[0]
            for i in np.unique(labels[labels > 0])
        ],
        axis=0,
    )
    first, second = distances[:2]
    border = np.where(second <= 3 * sigma, w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2)), 0)
    weights[labels == 0] += border
    return weights


@pytest.mark.parametrize("sigma", [0.7, 1.5, 3.0])
def test_weights_are_those_of_all_distances_to_all_objects(sigma):
    rng = np.random.default_rng(0)
    shape = (12, 30, 50)
    labels = balls(shape, rng.uniform(0, np.array(shape) * SPACING, (30, 3)), rng.uniform(2, 4, 30), SPACING)
    weights = border_weights(labels, spacing=SPACING, w0=7.0, sigma_um=sigma)
    expected = by_all_pairs(labels, SPACING, 7.0, sigma)
    assert weights.dtype == np.float32
    assert (expected[labels == 0] > expected[labels == 0].min() + 0.5).sum() > 100
    assert_allclose(weights, expected, rtol=1e-5)


def test_gaps_in_the_numbering_change_nothing():
    labels = balls((8, 12, 20), [(4, 6, 6), (4, 6, 13)], [3, 3], UNIT)
    renamed = np.array([0, 7, 3], np.uint16)[labels]
    assert_array_equal(border_weights(labels, spacing=UNIT), border_weights(renamed, spacing=UNIT))


def test_a_gap_of_one_voxel_weighs_as_its_closed_form():
    labels = np.zeros((1, 1, 41), np.uint8)
    labels[..., 10:20], labels[..., 21:30] = 1, 2
    weights = border_weights(labels, spacing=UNIT, w0=10.0, sigma_um=2.0)[0, 0]
    share = 19 / 41
    # one voxel to each side: d1 + d2 = 2 = sigma
    assert weights[20] == pytest.approx(0.5 / (1 - share) + 10 * np.exp(-0.5), rel=1e-6)
    assert_allclose(weights[10:20], 0.5 / share, rtol=1e-6)
    assert_allclose(weights[:5], 0.5 / (1 - share), rtol=1e-6)


def test_the_groove_between_touching_nuclei_dominates_every_other_voxel():
    labels = balls((21, 21, 42), [(10, 10, 12), (10, 10, 28)], [8, 8], UNIT)
    assert (labels[10, 10, 20] > 0) == (labels[10, 10, 19] > 0)
    weights = border_weights(labels, spacing=UNIT, w0=10.0, sigma_um=2.0)
    z, y, x = np.unravel_index(weights.argmax(), weights.shape)
    assert labels[z, y, x] == 0
    assert abs(x - 20) <= 1
    assert np.hypot(z - 10, y - 10) < 5
    plain = weights[labels > 0].max()
    assert weights.max() > 2 * plain
    # the groove widens away from the contact, and its weight falls
    along = weights[10, :, 20][11:][labels[10, :, 20][11:] == 0]
    assert (np.diff(along) <= 0).all()


def test_classes_weigh_alike_and_the_mean_is_1():
    labels = balls((16, 16, 16), [(8, 8, 8)], [5], UNIT)
    weights = border_weights(labels, spacing=UNIT)
    assert weights[labels > 0].sum() == pytest.approx(weights[labels == 0].sum(), rel=1e-5)
    assert weights.mean() == pytest.approx(1, rel=1e-5)


def test_a_few_voxels_do_not_outweigh_all_others():
    labels = np.zeros((10, 20, 20), np.uint16)
    labels[5, 5, 5] = 1
    weights = border_weights(labels, spacing=UNIT)
    assert weights[5, 5, 5] == 10
    assert weights.min() == pytest.approx(0.5 / (1 - 1 / 4000))


@pytest.mark.parametrize("label", [0, 3])
def test_one_class_alone_weighs_1(label):
    assert_array_equal(border_weights(np.full((4, 5, 6), label), spacing=UNIT), np.ones((4, 5, 6)))


def test_without_weight_for_gaps_classes_remain():
    labels = balls((8, 12, 20), [(4, 6, 6), (4, 6, 13)], [3, 3], UNIT)
    assert len(np.unique(border_weights(labels, spacing=UNIT, w0=0))) == 2


def test_distances_are_taken_about_each_object_only(monkeypatch):
    centres = [(10, 10, 10), (10, 10, 30), (30, 30, 50), (20, 30, 30)]
    labels = balls((40, 40, 60), centres, [4] * 4, UNIT)
    shapes = distance_transforms(monkeypatch)
    border_weights(labels, spacing=UNIT, sigma_um=1.5)
    # a ball of 9 voxels, and 3 sigma on both sides
    assert len(shapes) == 4
    assert max(map(max, shapes)) <= 9 + 2 * 5


@pytest.mark.parametrize(("w0", "sigma"), [(-1, 2), (np.nan, 2), (10, 0), (10, np.inf)])
def test_parameters_that_cannot_be_are_refused(w0, sigma):
    with pytest.raises(InputError, match="a finite w0"):
        border_weights(np.zeros((2, 2, 2), int), spacing=UNIT, w0=w0, sigma_um=sigma)
