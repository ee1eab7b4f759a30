"""The scale of an image is where the diameter does not depend on the voxel edge."""

import math

import pytest

from qcanet_monai.core.scale import FACTOR, Look, change, stable_look


def looks(*seen):
    """Looks from 1 µm on, of (diameter in µm, volume in µm³)."""
    return [Look(FACTOR**step, diameter, volume) for step, (diameter, volume) in enumerate(seen)]


@pytest.mark.parametrize(
    ("seen", "at"),
    [
        ([(14, 900), (14.3, 900), (15, 850)], 0),
        ([(7, 600), (11, 800), (14, 900), (14.4, 900)], 2),  # too fine at first
        ([(10, 900), (11.7, 950), (49, 9000), (50, 9000)], None),  # neighbours run together
        ([(3, 5), (14, 900), (14.3, 900)], 1),  # specks of noise at first
        ([(30, 900), (40, 1800), (41, 1900)], None),  # an embryo, not a nucleus
        ([(math.nan, 0), (14, 900), (14, 900)], 1),
        ([(math.nan, 0), (math.nan, 0)], None),
    ],
)
def test_the_finest_look_that_agrees_with_its_neighbour_is_found(seen, at):
    assert stable_look(looks(*seen)) == at


def test_the_change_has_no_direction():
    one, other, nothing = looks((10, 1), (12, 1), (math.nan, 0))
    assert change(one, other) == change(other, one) == pytest.approx(1.2)
    assert change(one, nothing) == math.inf
