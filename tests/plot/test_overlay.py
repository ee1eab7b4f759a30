"""Overlay: every nucleus outlined in its own colour, no colour elsewhere."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from qcanet_monai.errors import InputError
from qcanet_monai.plot.outlines import (
    distinct_labels,
    label_colour,
    label_colours,
    outline_projection,
    outline_slice,
)
from qcanet_monai.plot.overlay import choose_slices, write_overlay

SPACING = (2.0, 0.5, 0.5)


def embryo():
    """Return noise with two boxes, and their labels."""
    labels = np.zeros((10, 30, 40), np.uint16)
    labels[2:6, 5:15, 5:15] = 1
    labels[5:9, 16:26, 20:35] = 2
    noise = np.random.default_rng(0).integers(0, 50, labels.shape)
    return (noise + 200 * (labels > 0)).astype(np.uint16), labels


def coloured(canvas):
    return (canvas != canvas[..., :1]).any(axis=-1)


def test_a_slice_is_coloured_only_just_inside_its_nuclei():
    labels = embryo()[1][5]
    canvas = np.zeros((30 * 6, 40 * 6, 3), np.uint8)
    outline_slice(canvas, labels)
    large = np.kron(labels, np.ones((6, 6), np.uint16))
    assert (large[coloured(canvas)] > 0).all()
    for label in (1, 2):
        rows, columns = np.nonzero((canvas == label_colour(label)).all(axis=-1))
        inside = np.nonzero(large == label)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (
            inside[0].min(),
            inside[0].max(),
            inside[1].min(),
            inside[1].max(),
        )
    assert not coloured(canvas)[6 * 6 : 14 * 6, 6 * 6 : 14 * 6].any()


@pytest.mark.parametrize("large", [70_000, 2**32 - 1])
def test_a_projection_shows_silhouettes_that_overlap(large):
    labels = np.zeros((4, 20, 20), np.uint32)
    labels[0, 2:12, 2:12] = large
    labels[3, 8:18, 8:18] = 5
    assert distinct_labels(labels).tolist() == [5, large]
    canvas = np.zeros((20, 20, 3), np.uint8)
    outline_projection(canvas, labels, axis=0)
    assert_array_equal(canvas[2, 2], label_colour(large))
    assert_array_equal(canvas[17, 17], label_colour(5))
    assert_array_equal(canvas[8, 8], canvas[8, 17])
    assert not coloured(canvas)[labels.max(axis=0) == 0].any()


def test_touching_nuclei_keep_a_line_each():
    labels = np.ones((1, 8, 16), np.uint8)
    labels[..., 8:] = 2
    canvas = np.zeros((8, 16, 3), np.uint8)
    outline_slice(canvas, labels[0])
    assert_array_equal(canvas[4, 7], label_colour(1))
    assert_array_equal(canvas[4, 8], label_colour(2))


def test_colours_are_distinct_bright_and_never_grey():
    colours = np.array(label_colours(64))
    assert len(np.unique(colours, axis=0)) == 64
    assert colours.max(axis=1).min() > 100
    assert (colours.max(axis=1) - colours.min(axis=1)).min() > 30


def test_slices_lie_where_labels_are():
    labels = np.zeros((40, 3, 3), np.uint8)
    assert choose_slices(labels) == [3, 9, 16, 23, 29, 36]
    labels[[10, 11, 12, 30]] = 1
    assert choose_slices(labels) == [11, 12, 30]
    labels[:] = 0
    labels[7] = 1
    assert choose_slices(labels) == [7]


def test_the_picture_has_colour_for_nuclei_only(tmp_path):
    image, labels = embryo()
    write_overlay(tmp_path / "a.png", image, labels, spacing=SPACING, title="a.tif")
    write_overlay(tmp_path / "b.png", image, np.zeros_like(labels), spacing=SPACING)
    with_labels = np.asarray(Image.open(tmp_path / "a.png"))
    without = np.asarray(Image.open(tmp_path / "b.png"))
    assert with_labels.shape[1] == 1800
    assert not coloured(without).any()
    seen = {tuple(pixel) for pixel in with_labels[coloured(with_labels)].tolist()}
    assert seen == {label_colour(1), label_colour(2)}


@pytest.mark.parametrize("shape", [(2, 300, 4), (60, 5, 5), (3, 8, 400), (1, 1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_any_shape_makes_a_picture(tmp_path, shape, dtype):
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    write_overlay(
        tmp_path / "a.png", image, (image > 3).astype(int), spacing=(3.0, 0.1, 0.1), title="µ" * 400
    )
    assert Image.open(tmp_path / "a.png").width == 1800


def test_image_and_labels_must_match(tmp_path):
    image, labels = embryo()
    with pytest.raises(InputError, match=r"the same 3-D shape, got \(10, 30, 40\) and \(9, 30, 40\)"):
        write_overlay(tmp_path / "a.png", image, labels[1:], spacing=SPACING)
    with pytest.raises(InputError, match="3 finite positive numbers"):
        write_overlay(tmp_path / "a.png", image, labels, spacing=(np.nan,) * 3)
    assert list(tmp_path.iterdir()) == []
