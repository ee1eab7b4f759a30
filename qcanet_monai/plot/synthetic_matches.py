"""Figure of image stacks in rows, to judge their similarity by eye."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qcanet_monai.io.atomic import replacing
from qcanet_monai.plot.overlay import Panel, compose, ends_of, stretch

_HEIGHT = 330
_PLACES = (0.3, 0.5, 0.7)  # slice positions, as fractions of the depth


class Row(NamedTuple):
    """Caption, stack (Z, Y, X) and spacing (z, y, x) in µm of one row."""

    caption: str
    image: npt.NDArray[Any]
    spacing: tuple[float, float, float]


def write_synthetic_matches(path: str | PathLike[str], rows: Sequence[Row], *, title: str) -> None:
    """Draw a row per stack: three slices, and maximum projections along z and y.

    Grey values span the 0.5th to the 99.8th percentile of each stack or projection.

    Parameters
    ----------
    path : path-like
        Output PNG file.
    rows : sequence of Row
        Stacks from top to bottom.
    title : str
        Title of the figure.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    drawn = []
    for row in rows:
        z, y, x = row.spacing
        ends = ends_of(row.image)
        height, width = row.image.shape[1] * y, row.image.shape[2] * x
        slices = [min(len(row.image) - 1, int(place * len(row.image))) for place in _PLACES]
        panels = [
            Panel(stretch(row.image[k], ends), (height, width), f"z = {k * z:.1f} µm" if i else row.caption)
            for i, k in enumerate(slices)
        ]
        for axis, size in ((0, (height, width)), (1, (len(row.image) * z, width))):
            flat = np.max(row.image, axis=axis)
            caption = "maximum along z" if axis == 0 else "maximum along y"
            panels.append(Panel(stretch(flat, ends_of(flat)), size, caption))
        drawn.append((panels, _HEIGHT))
    with replacing(path) as temporary:
        compose(drawn, title, "").save(temporary, format="PNG", compress_level=3)
