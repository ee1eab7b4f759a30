"""Outlines of nuclei in distinct colours, on enlarged slices and projections."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

RGB = npt.NDArray[np.uint8]

_OUTLINE = 2  # pixels, drawn inside the nucleus
_TABLE = 2**24  # for labels below this, a lookup table is much faster than sorting


@functools.cache
def label_colours(n: int = 256) -> list[tuple[int, int, int]]:
    """Return `n` bright colours (R, G, B), 0 to 255, that are easy to tell apart.

    Greedy choice in CIELAB: each colour is the farthest from all previous colours and from black, grey and
    white (Glasbey et al., Color Research & Application 32 (2007) 304).
    """
    from skimage.color import rgb2lab

    levels = np.linspace(0, 1, 16)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = rgb2lab(grid)
    bright = (lab[:, 0] > 60) & (np.hypot(lab[:, 1], lab[:, 2]) > 40)
    grid, lab = grid[bright], lab[bright]
    greys = np.array([[light, 0.0, 0.0] for light in (0.0, 50.0, 100.0)])
    distance = np.linalg.norm(lab[:, None] - greys[None], axis=2).min(axis=1)
    chosen = []
    for _ in range(n):
        best = int(distance.argmax())
        chosen.append(best)
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
    return [(int(r), int(g), int(b)) for r, g, b in np.rint(grid[chosen] * 255)]


def label_colour(label: int) -> tuple[int, int, int]:
    """Return the colour (R, G, B) of a label from 1; colours repeat after 256 labels."""
    colours = label_colours()
    return colours[(label - 1) % len(colours)]


def outline_slice(canvas: RGB, labels: npt.NDArray[Any]) -> None:
    """Draw the outlines of nuclei onto an enlarged slice, in place.

    Parameters
    ----------
    canvas : ndarray of uint8, shape (H, W, 3)
        Enlarged slice.
    labels : ndarray of int, shape (Y, X)
        Labels of the slice; enlarged without interpolation, so that outlines stay thin.
    """
    from scipy.ndimage import binary_dilation
    from skimage.segmentation import find_boundaries

    rows, columns = _nearest(labels.shape[0], canvas.shape[0]), _nearest(labels.shape[1], canvas.shape[1])
    large = labels[np.ix_(rows, columns)]
    edge = binary_dilation(find_boundaries(large, mode="inner"), iterations=_OUTLINE - 1)
    large = np.where(edge, large, 0)
    for label in np.unique(large[large > 0]):
        canvas[large == label] = label_colour(int(label))


def outline_projection(canvas: RGB, labels: npt.NDArray[Any], axis: int) -> None:
    """Draw the silhouettes of all nuclei onto a projection, in place.

    Parameters
    ----------
    canvas : ndarray of uint8, shape (H, W, 3)
        Enlarged projection.
    labels : ndarray of int, shape (Z, Y, X)
        Labels of the whole stack; overlapping silhouettes are all drawn.
    axis : int
        Projected axis.
    """
    from scipy.ndimage import binary_erosion, find_objects

    values, ranks = _rank(labels)
    height, width = (n for i, n in enumerate(labels.shape) if i != axis)
    rows, columns = _nearest(height, canvas.shape[0]), _nearest(width, canvas.shape[1])
    for rank, box in enumerate(find_objects(ranks), start=1):
        mask = (ranks[box] == rank).any(axis=axis)
        down, across = (side for i, side in enumerate(box) if i != axis)
        i = np.flatnonzero((rows >= down.start) & (rows < down.stop))
        j = np.flatnonzero((columns >= across.start) & (columns < across.stop))
        large = mask[np.ix_(rows[i] - down.start, columns[j] - across.start)]
        edge = np.nonzero(large & ~binary_erosion(large, iterations=_OUTLINE))
        canvas[i[edge[0]], j[edge[1]]] = label_colour(int(values[rank - 1]))


def distinct_labels(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the non-zero labels (n,) of a non-negative label image, ascending."""
    if labels.max() < _TABLE:
        return np.flatnonzero(_used(labels))
    values = np.unique(labels)
    return values[values > 0]


def _rank(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """Return the labels in use, and the image relabelled to 1, 2, ..."""
    values = distinct_labels(labels)
    if labels.max() < _TABLE:
        table = np.cumsum(_used(labels))
        table[0] = 0
        return values, table[labels]
    return values, np.where(labels > 0, np.searchsorted(values, labels) + 1, 0)


def _used(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    used = np.zeros(int(labels.max()) + 1, dtype=bool)
    used[labels] = True
    used[0] = False
    return used


def _nearest(n: int, size: int) -> npt.NDArray[np.intp]:
    return ((np.arange(size) + 0.5) * n / size).astype(np.intp)
