"""Distributions of parameters: ranges and frequencies as the YAML states."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from qcanet_monai.simulator.distributions import Distribution

MANY = 4000


def distribution(content):
    return Distribution.model_validate(content)


def drawn(content, count=MANY):
    rng = np.random.default_rng(0)
    return [distribution(content).draw(rng) for _ in range(count)]


@pytest.mark.parametrize("value", [3, 2.5, "embryo", 0, -1.5])
def test_a_plain_value_is_always_drawn(value):
    assert drawn(value, 3) == drawn({"always": value}, 3) == [value] * 3
    assert distribution(value).ends() == [value]
    assert [type(v) for v in drawn(value, 2)] == [type(value)] * 2


def test_uniform_spreads_evenly_between_its_ends():
    assert stats.kstest(drawn({"uniform": [2, 6]}), stats.uniform(2, 4).cdf).pvalue > 0.01


def test_log_uniform_spreads_the_logarithm_evenly():
    logarithms = np.log(drawn({"log_uniform": [0.1, 10]}))
    assert stats.kstest(logarithms, stats.uniform(*np.log([0.1, 100])).cdf).pvalue > 0.01


def test_normal_is_cut_at_three_deviations():
    values = np.array(drawn({"normal": [5, 2]}))
    assert values.mean() == pytest.approx(5, abs=0.1)
    assert values.std() == pytest.approx(2, rel=0.04)
    rare = np.array(drawn({"normal": [0, 1]}, 20_000))
    assert np.abs(rare).max() == 3
    assert (np.abs(rare) == 3).mean() == pytest.approx(2 * stats.norm.sf(3), rel=0.3)


def test_integers_hold_both_of_their_ends_alike():
    values = drawn({"integers": [-1, 3]})
    assert all(type(v) is int for v in values)
    counts = np.unique_counts(values)
    assert counts.values.tolist() == [-1, 0, 1, 2, 3]
    assert stats.chisquare(counts.counts).pvalue > 0.01


def test_choices_are_drawn_by_their_weights():
    values = drawn({"choices": {"a": 1, "b": 3, "c": 0}})
    assert all(type(v) is str for v in values)
    assert values.count("c") == 0
    assert values.count("a") + values.count("b") == MANY
    assert values.count("b") / MANY == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(
    "content",
    [{"uniform": [2, 3]}, {"log_uniform": [2, 3]}, {"normal": [9, 1]}, {"integers": [2, 3]}, {"always": 4}],
)
def test_with_a_probability_it_is_drawn_that_often_and_is_0_else(content):
    values = drawn({**content, "probability": 0.3})
    nonzero = [v for v in values if v != 0]
    assert len(nonzero) / MANY == pytest.approx(0.3, abs=0.025)
    assert min(nonzero) >= 2
    assert 0 in distribution({**content, "probability": 0.3}).ends()
    assert 0 not in distribution(content).ends()


def test_a_probability_of_0_never_draws():
    assert set(drawn({"uniform": [2, 3], "probability": 0}, 50)) == {0}


@pytest.mark.parametrize(
    ("content", "ends"),
    [
        ({"uniform": [2, 6]}, [2, 6]),
        ({"log_uniform": [0.5, 6]}, [0.5, 6]),
        ({"integers": [0, 3]}, [0, 3]),
        ({"normal": [1, 0.5]}, [-0.5, 2.5]),
        ({"choices": {"a": 1, "b": 3}}, ["a", "b"]),
        ({"uniform": [2, 6], "probability": 0.5}, [2, 6, 0]),
        ({"always": 2, "probability": 0.5}, [2, 0]),
    ],
)
def test_the_ends_are_the_extremes_of_what_is_drawn(content, ends):
    assert distribution(content).ends() == ends
    values = drawn(content)
    if isinstance(ends[0], str):
        assert set(values) == set(ends)
    else:
        span = max(ends) - min(ends)
        assert min(ends) <= min(values) <= min(ends) + 0.05 * span
        assert max(ends) - 0.05 * span <= max(values) <= max(ends)


@pytest.mark.parametrize("content", [{"uniform": [2, 2]}, {"log_uniform": [2, 2]}, {"normal": [2, 0]}])
def test_equal_ends_give_that_value(content):
    assert drawn(content, 5) == pytest.approx([2] * 5)


@pytest.mark.parametrize("content", [{"log_uniform": [3, 3]}, {"log_uniform": [0.25, 0.25]}])
def test_no_draw_lies_beyond_an_end_not_even_by_rounding(content):
    low, high = content["log_uniform"]
    assert low <= min(drawn(content, 5)) <= max(drawn(content, 5)) <= high


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "expected one of always, .* got none"),
        ({"probability": 0.5}, "got none"),
        ({"uniform": [1, 2], "normal": [1, 2]}, "got uniform and normal"),
        ({"uniform": [2, 1]}, "lower end first, got 2.0 and 1.0"),
        ({"integers": [2, 1]}, "lower end first"),
        ({"log_uniform": [0, 1]}, "ends above 0, got 0.0 and 1.0"),
        ({"log_uniform": [-1, 1]}, "ends above 0"),
        ({"normal": [1, -1]}, "standard deviation of at least 0, got -1.0"),
        ({"choices": {}}, "weights above 0"),
        ({"choices": {"a": 0, "b": 0}}, "weights above 0"),
        ({"choices": {"a": -1, "b": 2}}, "weights|finite"),
        ({"choices": {"a": float("inf"), "b": 2}}, "weights|finite"),
        ({"uniform": [float("nan"), 2]}, "finite"),
        ({"uniform": [0, float("inf")]}, "finite"),
        ({"always": float("nan")}, "finite"),
        ({"choices": {"a": 1}, "probability": 0.5}, "no probability beside words"),
        ({"always": "a", "probability": 0.5}, "no probability beside words"),
        ({"uniform": [1, 2], "probability": 1.5}, "less than or equal to 1"),
        ({"uniform": [1, 2], "probability": -0.1}, "greater than or equal to 0"),
        ({"uniform": [1, 2, 3]}, "at most 2 items"),
        ({"uniform": [1]}, "Field required"),
        ({"integers": [0.5, 2]}, "integer"),
        ({"triangular": [1, 2]}, "Extra inputs"),
        ([1, 2], "valid dictionary"),
        (None, "valid dictionary"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(content, reason):
    with pytest.raises(ValidationError, match=reason):
        distribution(content)
