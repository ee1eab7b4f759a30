"""Uncertainty map: colours by value, in their order, written atomically."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from qcanet_monai.errors import InputError, OutputError
from qcanet_monai.plot import uncertainty_map
from qcanet_monai.plot.uncertainty_map import write_uncertainty_map

SPACING = (2.0, 0.5, 0.5)
COLOURS = uncertainty_map._radius_colours()


def embryo():
    """Return noise with three boxes, two of them overlapping along z, and labels."""
    labels = np.zeros((12, 30, 40), np.uint16)
    labels[1:4, 4:16, 4:16] = 1
    labels[6:11, 4:16, 10:22] = 2
    labels[4:8, 18:28, 26:36] = 3
    noise = np.random.default_rng(0).integers(0, 50, labels.shape)
    return (noise + 200 * (labels > 0)).astype(np.uint16), labels


def tint(level):
    return tuple(np.rint(255 * np.array(COLOURS(float(level))[:3])).astype(int).tolist())


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def share_of(picture, colour):
    return (np.abs(picture.astype(int) - colour).max(axis=-1) <= 2).mean()


def silhouettes(values, axis=0, labels=None):
    image, truth = embryo()
    levels = np.array(values, float)
    return uncertainty_map._silhouettes(
        image, truth if labels is None else labels, levels, axis, SPACING, COLOURS
    )


def coloured(canvas):
    return (canvas != canvas[..., :1]).any(axis=-1)


@pytest.mark.parametrize(("axis", "size"), [(0, (675, 900)), (1, (900, 750))])
def test_colour_is_where_nuclei_are_and_to_scale(axis, size):
    canvas, labels = silhouettes([0.1, 0.5, 1.0], axis), embryo()[1]
    assert canvas.shape == (*size, 3)
    flat = labels.any(axis=axis)
    # a pixel shows the voxel that contains its centre
    rows, columns = ((2 * np.arange(m) + 1) * n // (2 * m) for m, n in zip(size, flat.shape, strict=True))
    assert_array_equal(coloured(canvas), flat[np.ix_(rows, columns)])


def test_outlines_have_their_values_colour_and_insides_are_mixed_with_grey():
    canvas = silhouettes([0.1, 0.5, 1.0])
    scale = canvas.shape[0] / 30
    top = round(18 * scale) + 1, round(30 * scale)
    inside = round(22 * scale), round(30 * scale)
    assert tuple(canvas[top]) == tint(1.0)
    assert tuple(canvas[inside]) != tint(1.0)
    assert canvas[inside][2] < canvas[inside][0]  # still yellow


@pytest.mark.parametrize(("values", "upper"), [([0.2, 0.9, 0], 0.9), ([0.9, 0.2, 0], 0.9)])
def test_the_more_uncertain_of_two_is_drawn_on_top(values, upper):
    canvas = silhouettes(values)
    scale = canvas.shape[0] / 30
    # at the upper edge both silhouettes cover columns 10 to 15
    assert tuple(canvas[round(4 * scale) + 1, round(13 * scale)]) == tint(upper)


def test_what_is_not_finite_is_drawn_as_the_highest(tmp_path):
    image, labels = embryo()
    for name, values in (("a", [1.0, 4.0, 4.0]), ("b", [1.0, 4.0, np.inf]), ("c", [1.0, 4.0, np.nan])):
        write_uncertainty_map(tmp_path / name, image, labels, np.array(values), spacing=SPACING, title="t")
    a, b, c = (pixels(tmp_path / name) for name in "abc")
    below = 150  # the heading differs
    assert_array_equal(a[below:], b[below:])
    assert_array_equal(b, c)
    assert (a[:below] != b[:below]).any()


def test_the_facts_count_what_is_not_finite():
    values = np.array([1.0, np.inf, 3.0, np.nan])
    facts = uncertainty_map._facts(values, values[np.isfinite(values)], "µm")
    assert facts == "4 nuclei · median radius 2 µm · 2 without a finite radius, drawn as the highest"
    one = np.array([0.125])
    assert uncertainty_map._facts(one, one, "µm") == "1 nucleus · median radius 0.125 µm"
    none = np.zeros(0)
    assert uncertainty_map._facts(none, none, "µm") == "0 nuclei"


def test_the_spread_has_a_row_of_its_own(tmp_path):
    image, labels = embryo()
    spread = np.where(labels == 3, 0.4, 0.0).astype(np.float32)
    arguments = {"spacing": SPACING, "title": "t"}
    write_uncertainty_map(tmp_path / "a.png", image, labels, np.ones(3), **arguments)
    write_uncertainty_map(tmp_path / "b.png", image, labels, np.ones(3), **arguments, spread=spread)
    without, with_spread = pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png")
    assert without.shape[1] == with_spread.shape[1] == 1800
    assert with_spread.shape[0] > 1.7 * without.shape[0]
    brightest = (252, 253, 191)  # the end of magma
    assert share_of(with_spread, brightest) > 0.01
    assert share_of(without, brightest) == 0


@pytest.mark.parametrize("shape", [(2, 300, 4), (60, 5, 5), (3, 8, 400), (1, 1, 1)])
def test_any_shape_makes_a_picture_and_any_title_is_text(tmp_path, shape):
    image = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    labels = np.zeros(shape, np.uint32)
    labels[0, 0, 0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_uncertainty_map(
            tmp_path / "a.png",
            image,
            labels,
            np.ones(1),
            spacing=(3.0, 0.1, 0.1),
            title=r"$\no_$" + "µ" * 400,
        )
    assert Image.open(tmp_path / "a.png").width == 1800


def test_without_nuclei_there_is_a_picture_without_colour(tmp_path):
    image, labels = embryo()
    write_uncertainty_map(
        tmp_path / "a.png", image, np.zeros_like(labels), np.zeros(0), spacing=SPACING, title="t"
    )
    picture = pixels(tmp_path / "a.png")
    assert not coloured(picture[:, : picture.shape[1] * 4 // 5]).any()  # the colour bar begins there


def test_shapes_values_and_spacing_must_fit(tmp_path):
    image, labels = embryo()
    path, ones = tmp_path / "a.png", np.ones(3)
    with pytest.raises(InputError, match=r"got \(12, 30, 40\) and \(11, 30, 40\)"):
        write_uncertainty_map(path, image, labels[1:], ones, spacing=SPACING, title="t")
    with pytest.raises(InputError, match=r"and \(2, 2, 2\)"):
        write_uncertainty_map(
            path, image, labels, ones, spacing=SPACING, title="t", spread=np.ones((2, 2, 2))
        )
    with pytest.raises(InputError, match="each of the 3 labels"):
        write_uncertainty_map(path, image, labels, np.ones(2), spacing=SPACING, title="t")
    with pytest.raises(InputError, match="3 finite positive numbers"):
        write_uncertainty_map(path, image, labels, ones, spacing=(1, 0, 1), title="t")
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_uncertainty_map(tmp_path / "no" / "a.png", image, labels, ones, spacing=SPACING, title="t")
    assert list(tmp_path.iterdir()) == []
