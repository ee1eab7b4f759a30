"""Confidence radii, spread of probabilities, and dropped nuclei."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.core.instances.uncertainty import Spread, confidence_radius_um, drop_labels, most_uncertain
from qcanet_monai.errors import InputError


def along_x(*places):
    return np.array([[0.0, 0.0, x] for x in places]).reshape(-1, 3)


def test_the_radius_reaches_to_the_ninth_of_ten_passes_peaks():
    passes = [along_x(i) for i in range(1, 11)]
    assert_array_equal(confidence_radius_um(along_x(0), passes), [9])
    assert_array_equal(confidence_radius_um(along_x(0), passes, share=1.0), [10])
    assert_array_equal(confidence_radius_um(along_x(0), passes, share=0.81), [9])
    assert_array_equal(confidence_radius_um(along_x(0), passes, share=0.1), [1])


def test_peaks_of_one_pass_count_each():
    passes = [along_x(1, 2, 3), along_x(), along_x(50)]
    assert_array_equal(confidence_radius_um(along_x(0), passes), [3])


def test_the_peaks_of_a_neighbour_do_not_make_a_centre_surer():
    passes = [along_x(0.5, 10), along_x(1, 10), along_x(10.5)]
    assert_array_equal(confidence_radius_um(along_x(0, 9), passes), [np.inf, 1.5])
    assert_array_equal(confidence_radius_um(along_x(0, 9), passes, share=0.6), [1, 1])


def test_the_radius_is_the_kth_of_a_centres_sorted_distances():
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 30, (7, 3))
    passes = [rng.uniform(0, 30, (rng.integers(3, 9), 3)) for _ in range(100)]
    distances = np.linalg.norm(centres[:, None] - np.concatenate(passes), axis=2)
    own = [np.sort(row[distances.argmin(0) == index]) for index, row in enumerate(distances)]
    for share, k in ((0.5, 50), (0.07, 7)):  # in floating point, 0.07 * 100 is slightly above 7
        expected = [row[k - 1] if len(row) >= k else np.inf for row in own]
        assert np.isfinite(expected).any()
        assert_allclose(confidence_radius_um(centres, passes, share=share), expected)


def test_too_few_peaks_make_an_infinite_radius():
    passes = [along_x(1), along_x(2), along_x()]
    assert_array_equal(confidence_radius_um(along_x(0, 5), passes), [np.inf, np.inf])
    assert_array_equal(confidence_radius_um(along_x(0), [along_x()] * 3), [np.inf])
    assert confidence_radius_um(along_x(), passes).shape == (0,)
    assert confidence_radius_um(along_x(), [along_x(1)] * 3).shape == (0,)


@pytest.mark.parametrize(("n", "share"), [(0, 0.9), (3, 0.0), (3, 1.1), (3, np.nan)])
def test_no_pass_and_no_share_are_refused(n, share):
    with pytest.raises(InputError, match="one pass or more and a share"):
        confidence_radius_um(along_x(0), [along_x(1)] * n, share=share)


def test_the_spread_is_the_population_standard_deviation():
    passes = np.random.default_rng(1).random((30, 3, 4, 5), np.float32)
    spread = Spread()
    for n, one in enumerate(passes, 1):
        spread.add(one)
        assert_allclose(spread.sd(), passes[:n].std(axis=0, dtype=np.float64), atol=1e-6)
    assert spread.sd().dtype == np.float32


def test_passes_that_agree_have_no_spread_and_are_left_as_they_were():
    spread, one = Spread(), np.full((2, 2, 2), 0.3)
    for _ in range(7):
        spread.add(one)
    assert_array_equal(spread.sd(), np.zeros((2, 2, 2)))
    assert_array_equal(one, np.full((2, 2, 2), 0.3))


def test_small_differences_far_from_zero_are_not_lost():
    spread = Spread()
    for value in (1000.0, 1000.5, 1001.0):
        spread.add(np.full((1, 1, 1), value))
    assert spread.sd()[0, 0, 0] == pytest.approx(0.5 * np.sqrt(2 / 3), rel=1e-3)


def test_the_spread_needs_passes_of_one_shape():
    spread = Spread()
    with pytest.raises(InputError, match="got none"):
        spread.sd()
    spread.add(np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match=r"shape \(2, 2, 2\), got \(1, 2, 2\)"):
        spread.add(np.zeros((1, 2, 2)))


def test_the_highest_share_is_marked_halves_upwards():
    values = np.array([0.3, 0.9, 0.1, 0.5, 0.7])
    for share, n in ((0, 0), (0.09, 0), (0.1, 1), (0.29, 1), (0.3, 2), (0.5, 3), (0.99, 5)):
        marked = most_uncertain(values, share)
        assert marked.sum() == n
        assert set(values[marked]) == set(np.sort(values)[5 - n :])
    assert most_uncertain(np.arange(50.0), 0.29).sum() == 15  # exactly 14.5, which floating point misses
    assert most_uncertain(np.zeros(0), 0.5).shape == (0,)


def test_unknown_and_infinite_come_first_and_ties_by_order():
    values = np.array([1.0, np.inf, 2.0, np.nan, 2.0])
    assert_array_equal(most_uncertain(values, 0.2), [0, 1, 0, 0, 0])
    assert_array_equal(most_uncertain(values, 0.4), [0, 1, 0, 1, 0])
    assert_array_equal(most_uncertain(values, 0.6), [0, 1, 1, 1, 0])


@pytest.mark.parametrize("share", [-0.1, 1, np.nan])
def test_a_share_of_all_is_refused(share):
    with pytest.raises(InputError, match=r"share in \[0, 1\)"):
        most_uncertain(np.zeros(3), share)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_labels_that_stay_are_numbered_without_gaps(kind):
    labels = np.array([[[0, 1, 2], [3, 4, 4]]], kind)
    kept = drop_labels(labels, np.array([True, False, True, False]))
    assert kept.dtype == kind
    assert_array_equal(kept, [[[0, 0, 1], [0, 2, 2]]])
    assert_array_equal(drop_labels(labels, np.zeros(4, bool)), labels)
    assert not drop_labels(labels, np.ones(4, bool)).any()
    assert not drop_labels(np.zeros((1, 2, 3), kind), np.zeros(0, bool)).any()


@pytest.mark.parametrize("n", [1, 3])
def test_entries_of_other_labels_are_refused(n):
    with pytest.raises(InputError, match="each of the 2 labels"):
        drop_labels(np.array([[[0, 1, 2]]], np.uint16), np.zeros(n, bool))
