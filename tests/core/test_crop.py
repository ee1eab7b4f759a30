"""A volume's middle in a box, and back."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from qcanet_monai.core.crop import centre_window, crop_or_pad, undo
from qcanet_monai.errors import InputError

EXTENTS = [(n, m) for n in range(1, 8) for m in range(1, 8)]


def numbered(shape):
    return np.arange(1, np.prod(shape) + 1, dtype=np.int32).reshape(shape)


@pytest.mark.parametrize(("n", "m"), EXTENTS)
def test_every_extent_comes_back_inside_the_window_and_is_fill_outside(n, m):
    # the other axes are cropped and padded by odd and even numbers
    for (p, q), (r, s) in itertools.product([(4, 7), (5, 3), (6, 2), (3, 5)], repeat=2):
        shape, size = (n, p, r), (m, q, s)
        array = numbered(shape)
        boxed = crop_or_pad(array, size)
        back = undo(boxed, shape, fill=-1)
        assert boxed.shape == size
        assert back.dtype == array.dtype
        inside = np.zeros(shape, bool)
        inside[centre_window(shape, size).crop] = True
        assert_array_equal(back, np.where(inside, array, -1))
        assert inside.sum() == np.prod(np.minimum(shape, size))
        assert (boxed > 0).sum() == inside.sum()


@pytest.mark.parametrize(("n", "m"), EXTENTS)
def test_the_middle_is_the_middle_to_half_a_voxel(n, m):
    ((crop, _, _), ((before, after), _, _)) = centre_window((n, 1, 1), (m, 1, 1))
    assert crop.start + (n - crop.stop) == max(0, n - m)
    assert before + after == max(0, m - n)
    assert (n - crop.stop) - crop.start in (0, 1)
    assert after - before in (0, 1)


def test_sizes_by_hand():
    assert_array_equal(crop_or_pad(np.arange(5).reshape(1, 1, 5), (1, 1, 2)), [[[1, 2]]])
    assert_array_equal(crop_or_pad(np.arange(1, 3).reshape(1, 1, 2), (1, 1, 5)), [[[0, 1, 2, 0, 0]]])
    assert_array_equal(undo(np.array([[[1, 2]]]), (1, 1, 5)), [[[0, 1, 2, 0, 0]]])


def test_the_result_is_no_view_of_what_came_in():
    array = numbered((2, 3, 4))
    for made in (crop_or_pad(array, (2, 3, 4)), crop_or_pad(array, (1, 2, 2)), undo(array, (2, 3, 4))):
        assert not np.shares_memory(made, array)


@pytest.mark.parametrize(
    ("shape", "size"), [((4, 4), (2, 2, 2)), ((4, 4, 4), (2, 2)), ((4, 4, 4), (2, 0, 2))]
)
def test_what_is_no_volume_or_no_size_is_refused(shape, size):
    with pytest.raises(InputError, match="shape of a volume"):
        crop_or_pad(np.zeros(shape), size)
