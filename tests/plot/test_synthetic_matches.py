"""Figure of synthetic matches: a row per stack, three slices, two projections."""

from itertools import groupby

import numpy as np
import pytest
from PIL import Image

from qcanet_monai.errors import OutputError
from qcanet_monai.plot.synthetic_matches import Row, write_synthetic_matches

HEADER, CAPTION, MARGIN = 44, 26, 16
SPACING = (2.0, 1.0, 1.0)


def stack(seed=0, shape=(10, 40, 60)):
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.uint16)


def drawn(path, rows, title="title"):
    write_synthetic_matches(path, rows, title=title)
    return np.asarray(Image.open(path)).astype(int)


def runs(line):
    """Find runs of at least 30 equal pixels in a line: grey value and length."""
    found = [(value, len([*same])) for value, same in groupby(line[:, 0].tolist())]
    return [(value, n) for value, n in found if n >= 30]


def test_slices_at_three_depths_and_two_projections_stand_side_by_side(tmp_path):
    image = np.repeat(np.arange(10), 40 * 60).reshape(10, 40, 60).astype(np.float32)  # slice k has value k
    picture = drawn(tmp_path / "a.png", [Row("real", image, SPACING)])
    low, high = np.percentile(image, (0.5, 99.8))
    greys = [int(255 * (k - low) / (high - low)) for k in (3, 5, 7)]
    across = runs(picture[HEADER + CAPTION + 80])
    assert [value for value, _ in across[:3]] == greys
    assert across[3][0] == 0  # the maximum along z is constant
    wide = [n for _, n in across[:5]]
    assert max(wide) - min(wide) <= 2
    # the last panel shows z downwards: 10 slices of 2 µm under 60 voxels of 1 µm
    column = picture[HEADER + CAPTION :, picture.shape[1] - MARGIN - wide[0] // 2, 0]
    assert np.flatnonzero(column != 24).max() + 1 == pytest.approx(wide[0] * 20 / 60, abs=2)
    values = column[: int(wide[0] * 20 / 60) - 2]
    assert (values[0], values[-1]) == (0, 255)
    assert np.all(np.diff(values) >= 0)


def test_every_stack_has_a_row(tmp_path):
    one, two, three = (
        drawn(tmp_path / "a.png", [Row("a stack", stack(i), SPACING) for i in range(n)]) for n in (1, 2, 3)
    )
    tall = len(two) - len(one)
    assert len(three) - len(two) == tall > CAPTION
    assert one.shape[1] == two.shape[1] == three.shape[1] == 1800
    assert np.array_equal(one[: HEADER + tall], three[: HEADER + tall])
    assert np.array_equal(two[HEADER + tall : HEADER + 2 * tall], three[HEADER + tall : HEADER + 2 * tall])
    assert not np.array_equal(two[HEADER : HEADER + tall], two[HEADER + tall : HEADER + 2 * tall])


def test_title_and_captions_stand_above_what_they_name(tmp_path):
    def picture(title, first, second):
        rows = [Row(first, stack(0), SPACING), Row(second, stack(1), SPACING)]
        return drawn(tmp_path / "a.png", rows, title)

    plain = picture("title", "real", "simulated")
    tall = (len(plain) - HEADER - MARGIN) // 2
    for other, top, bottom in (
        (picture("another", "real", "simulated"), 0, HEADER),
        (picture("title", "an image", "simulated"), HEADER, HEADER + CAPTION),
        (picture("title", "real", "9 nuclei"), HEADER + tall, HEADER + tall + CAPTION),
    ):
        lines = np.flatnonzero((other != plain).any(axis=(1, 2)))
        assert lines.size
        assert top <= lines.min() <= lines.max() < bottom


@pytest.mark.parametrize("scale", [(3.0, 100.0), (0.5, 7.0)])
def test_other_counts_look_the_same(tmp_path, scale):
    factor, offset = scale
    image = stack().astype(np.float32)
    one = drawn(tmp_path / "a.png", [Row("a", image, SPACING)])
    two = drawn(tmp_path / "b.png", [Row("a", factor * image + offset, SPACING)])
    assert np.abs(one - two).max() <= 1


@pytest.mark.parametrize("shape", [(6, 32, 32), (64, 128, 128), (6, 128, 40)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_any_stack_makes_a_picture(tmp_path, shape, dtype):
    for image in (stack(shape=shape).astype(dtype), np.zeros(shape, dtype)):
        assert drawn(tmp_path / "a.png", [Row("µ" * 30, image, (0.5, 1.3, 1.3))]).shape[1] == 1800


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="folder does not exist"):
        write_synthetic_matches(tmp_path / "none" / "a.png", [Row("a", stack(), SPACING)], title="")
    assert list(tmp_path.iterdir()) == []
