"""Means over volumes of several embryos, against closed forms where possible."""

import math

import numpy as np
import pytest

from qcanet_monai.core.metrics.statistics import estimate


def test_mean_and_spread_are_over_the_volumes_in_which_the_value_is_defined():
    found = estimate([0.25, math.nan, 0.75, 0.5], ["a", "a", "b", "b"])
    assert found[:3] == (3, 0.5, pytest.approx(0.25))
    assert 0.25 <= found.low <= found.high <= 0.75


def test_volumes_of_one_embryo_have_no_interval():
    found = estimate([0.25, 0.75], ["a", "a"])
    assert found.mean == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_nothing_has_no_mean(values):
    found = estimate(values, ["a"] * len(values))
    assert found.n == 0
    assert all(map(math.isnan, found[1:]))


def test_of_two_embryos_both_are_drawn_half_of_the_time():
    found = estimate([0.0, 0.0, 1.0], ["a", "a", "b"])
    assert (found.low, found.high) == (0, 1)  # each occurs alone in a quarter of the draws


def test_embryos_are_drawn_whole_so_that_many_time_points_make_no_certainty():
    draw = np.random.default_rng(0)
    levels = draw.normal(0.5, 0.1, 12)
    values = np.repeat(levels, 50) + draw.normal(0, 0.01, 600)
    together = estimate(values, np.repeat(np.arange(12), 50))
    apart = estimate(values, np.arange(600))
    assert together.high - together.low > 4 * (apart.high - apart.low)
    # about twice 1.96 standard errors of twelve means
    assert together.high - together.low == pytest.approx(2 * 1.96 * levels.std() / math.sqrt(12), rel=0.1)


def test_a_seed_fixes_the_interval():
    values = np.random.default_rng(0).random(50)
    assert estimate(values, range(50)) == estimate(values, range(50))
    assert estimate(values, range(50), seed=1) != estimate(values, range(50), seed=2)
