"""Picture of a prediction beside the truth, small enough to compare many."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qcanet_monai.plot.outlines import RGB, outline_projection, outline_slice
from qcanet_monai.plot.overlay import ends_of, stretch

_HEIGHT, _GAP = 320, 6


def compare_with_truth(image: npt.NDArray[Any], truth: npt.NDArray[Any], found: npt.NDArray[Any]) -> RGB:
    """Draw a volume, its true labels and those found, in a slice and a projection.

    Top: the slice with most of the truth. Bottom: the maximum along z. From left to right: the image, the
    truth, the labels found.

    Parameters
    ----------
    image
        Intensities (Z, Y, X).
    truth, found
        Labels (Z, Y, X); 0 is background.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Examples
    --------
    >>> import numpy as np
    >>> from qcanet_monai.plot.comparison import compare_with_truth
    >>> labels = np.zeros((4, 16, 16), np.uint8)
    >>> labels[1:3, 4:12, 4:12] = 1
    >>> compare_with_truth(labels.astype(float), labels, labels).shape
    (646, 972, 3)
    """
    place = int(np.count_nonzero(truth, axis=(1, 2)).argmax())
    ends, flat = ends_of(image), image.max(axis=0)
    rows = []
    for grey, drawn in ((stretch(image[place], ends), "slice"), (stretch(flat, ends_of(flat)), "projection")):
        panels = [_enlarged(grey) for _ in range(3)]
        for canvas, labels in zip(panels[1:], (truth, found), strict=True):
            if drawn == "slice":
                outline_slice(canvas, labels[place])
            else:
                outline_projection(canvas, labels, 0)
        rows.append(_joined(panels, 1))
    return _joined(rows, 0)


def _enlarged(grey: npt.NDArray[np.uint8]) -> RGB:
    height, width = grey.shape
    size = _HEIGHT, max(1, round(_HEIGHT * width / height))
    rows, columns = (np.arange(wide) * n // wide for n, wide in zip(grey.shape, size, strict=True))
    return np.repeat(grey[np.ix_(rows, columns)][..., None], 3, axis=2)


def _joined(parts: list[RGB], axis: int) -> RGB:
    """Put pictures beside or below each other, with a white gap."""
    shape = list(parts[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([piece for part in parts for piece in (gap, part)][1:], axis=axis)
