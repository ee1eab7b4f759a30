"""The largest component of a mask."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcanet_monai.core.instances.single_object import largest_object
from qcanet_monai.errors import InputError

SPACING = (2.0, 0.5, 0.25)


def outputs(*boxes, shape=(9, 12, 16)):
    array = np.full((1, *shape), 0.1, np.float32)
    for box in boxes:
        array[(0, *box)] = 0.8
    return array


SMALL = (slice(1, 3), slice(1, 3), slice(1, 3))
LARGE = (slice(2, 7), slice(4, 9), slice(6, 13))


def test_only_the_largest_component_is_labelled():
    probability = outputs(SMALL, LARGE)
    found = largest_object(probability, spacing=SPACING)
    expected = np.zeros((9, 12, 16))
    expected[LARGE] = 1
    assert_array_equal(found.labels, expected)
    assert found.labels.dtype == np.uint16
    assert found.centres_um is None
    assert_array_equal(found.foreground, probability[0])


def test_size_counts_and_not_probability():
    probability = outputs(SMALL, LARGE)
    probability[(0, *SMALL)] = 1000
    assert largest_object(probability, spacing=SPACING).labels[LARGE].all()


def test_components_that_touch_by_an_edge_are_two():
    a, b = (slice(0, 2), slice(0, 2), slice(0, 3)), (slice(0, 2), slice(2, 4), slice(3, 7))
    labels = largest_object(outputs(a, b), spacing=SPACING).labels
    assert labels[b].all()
    assert not labels[a].any()


def test_of_two_alike_the_first_is_taken():
    other = (slice(5, 7), slice(1, 3), slice(1, 3))
    labels = largest_object(outputs(SMALL, other), spacing=SPACING).labels
    assert labels[SMALL].all()
    assert not labels[other].any()


def test_a_hole_is_filled_and_a_tunnel_is_not():
    probability = outputs(LARGE)
    probability[0, 4, 6, 9] = 0
    assert largest_object(probability, spacing=SPACING).labels[4, 6, 9] == 1
    probability[0, :5, 6, 9] = 0
    assert largest_object(probability, spacing=SPACING).labels[4, 6, 9] == 0


def test_the_threshold_itself_is_enough():
    probability = outputs(LARGE)
    assert largest_object(probability, spacing=SPACING, threshold=float(np.float32(0.8))).labels.any()
    assert not largest_object(probability, spacing=SPACING, threshold=0.81).labels.any()


def test_an_empty_mask_has_no_label():
    found = largest_object(outputs(), spacing=SPACING)
    assert not found.labels.any()


@pytest.mark.parametrize("shape", [(2, 4, 4, 4), (4, 4, 4)])
def test_other_than_one_output_is_refused(shape):
    with pytest.raises(InputError, match="expected one probability"):
        largest_object(np.zeros(shape, np.float32), spacing=SPACING)
