"""Cells from a foreground that membranes part: clustering by touching area, and by density.

Wang et al. (2022), 3DCellSeg, doi:10.1038/s41598-021-04048-3. The membranes that a network finds have small
holes, through which the foreground of neighbours hangs together. TASCAN cuts it into super-voxels and joins
those that touch over more than a hole.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError

MIN_AREA = 30  # faces of voxels: what the authors use for all of their data
EPS_VOXELS, MIN_SAMPLES = 2.5, 75  # of the 81 voxels so near: of what was tried, it divides best

_APART = 3.0  # voxels of the finest axis: a peak of the distance is the highest so far around
_TIES = np.float32(1e-3)  # small against the difference of two distances

Kind = TypeVar("Kind", bound=np.integer)


def supervoxels(foreground: NDArray[np.bool_], *, spacing: Spacing | None = None) -> NDArray[np.int32]:
    """Cut a foreground where it narrows: watershed on the negative distance to what is not foreground.

    Markers are the peaks of that distance, the highest within three voxels and without background across a
    face; peaks that touch are one marker. The volume's border is no background.

    Parameters
    ----------
    foreground : ndarray of bool, shape (Z, Y, X)
        Inside of the cells, without their membranes.
    spacing : tuple of float, optional
        Voxel size (z, y, x) in µm, of which only the ratios count; without it voxels are cubes.

    Returns
    -------
    ndarray of int32, shape (Z, Y, X)
        Super-voxels 1..n; 0 outside the foreground, and in those of its 6-connected components that hold no
        marker, as sheets and threads up to two voxels thick.

    Notes
    -----
    Cut by a minimum spanning forest over the places to which a drop of water runs, which takes less time than
    to flood voxel by voxel: Cousty et al. (2009), Watershed cuts, doi:10.1109/TPAMI.2008.173.
    """
    inside = np.asarray(foreground, bool)
    if inside.all():
        return np.ones(inside.shape, np.int32)  # without any background there is no distance to it
    step = np.ones(3) if spacing is None else np.divide(spacing, min(spacing))
    depth = _depth(inside, step)
    reach = np.maximum(np.rint(_APART / step), 1).astype(int)
    peaks = ndi.binary_erosion(inside, border_value=1)
    peaks &= depth == ndi.maximum_filter(depth, tuple(2 * reach + 1))
    markers, n_markers = ndi.label(peaks, np.ones((3, 3, 3)), output=np.int32)
    # Of voxels equally deep the one in deeper surroundings is higher, so that a hole is cut in its middle; a
    # peak is higher than any of them, as the mean around a voxel differs from it by less than two steps.
    depth[inside] += _TIES * (ndi.uniform_filter(depth, 3) - depth)[inside]
    depth[peaks] += 4 * _TIES * np.float32(step.max())
    summits = _summits(depth)
    tops = np.flatnonzero((summits == np.arange(depth.size)) & inside.ravel())
    number = np.zeros(depth.size, np.int32)
    number[tops] = markers.ravel()[tops]
    free = tops[number[tops] == 0]
    number[free] = np.arange(n_markers + 1, n_markers + 1 + len(free))
    basins = number[summits].reshape(depth.shape) * inside
    labels: NDArray[np.int32] = _forest(basins, depth, n_markers)[basins]
    return labels


def merge_by_touching_area(labels: NDArray[np.integer], *, min_area: int = MIN_AREA) -> NDArray[np.int32]:
    """Join super-voxels that touch over a large area, or over half of the surface of one of them.

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        Super-voxels, 0 is background; their numbers may have gaps and do not matter.
    min_area : int
        Common faces of voxels from which on two are one cell: more than the holes of a membrane have.

    Returns
    -------
    ndarray of int32, shape (Z, Y, X)
        Cells 1..n, numbered by their first voxel in raster order.

    Raises
    ------
    InputError
        If `min_area` is below 1: all that touches would be one cell.

    Notes
    -----
    Algorithm 1 (TASCAN) of Wang et al. (2022). A surface is all faces towards anything else in the volume.
    Cells are the connected components of the graph of joined pairs, so that no order matters.
    """
    if min_area < 1:
        raise InputError(f"expected a touching area of at least 1 voxel face, got {min_area}: give e.g. 30")
    number = int(labels.max(initial=0)) + 1
    one, two = (labels.ravel()[side] for side in _faces(labels))
    surface = np.bincount(one, minlength=number) + np.bincount(two, minlength=number)
    both = (one > 0) & (two > 0)
    u, v, first, order = _pairs(one[both], two[both], number)
    area = np.diff(first, append=len(order))
    joined = (area >= min_area) | (2 * area >= np.minimum(surface[u], surface[v]))
    graph = coo_array((joined[joined], (u[joined], v[joined])), shape=(number, number))
    cells = connected_components(graph, directed=False)[1].astype(np.int32) + 1
    cells[0] = 0  # the background, which nothing joins
    return _by_first_voxel(cells[labels])


def dbscan(
    foreground: NDArray[np.bool_], *, eps_voxels: float = EPS_VOXELS, min_samples: int = MIN_SAMPLES
) -> NDArray[np.int32]:
    """Cluster the voxels of a foreground by their density: the usual way, slower than TASCAN.

    Parameters
    ----------
    foreground : ndarray of bool, shape (Z, Y, X)
        Inside of the cells, without their membranes.
    eps_voxels : float
        Distance in voxels up to which two are neighbours.
    min_samples : int
        Neighbours, itself included, that make a voxel the core of a cluster: nearly as many as there can be,
        or clusters hang together through every hole.

    Returns
    -------
    ndarray of int32, shape (Z, Y, X)
        Cells 1..n, numbered by their first voxel in raster order; 0 is background and noise.

    Raises
    ------
    InputError
        If `eps_voxels` is not above 0, or `min_samples` below 1.

    Notes
    -----
    Ester et al. (1996), A density-based algorithm for discovering clusters in large spatial databases with
    noise, KDD. Takes some 8 bytes of memory for each neighbour of each voxel.
    """
    from sklearn.cluster import DBSCAN  # takes long to import, and only this needs it

    if not (eps_voxels > 0 and min_samples >= 1):
        raise InputError(
            f"expected eps_voxels above 0 and min_samples of at least 1, got {eps_voxels} and {min_samples}: "
            f"give e.g. {EPS_VOXELS} and {MIN_SAMPLES}"
        )
    cells = np.zeros(foreground.shape, np.int32)
    places = np.nonzero(foreground)
    if len(places[0]):
        clustering = DBSCAN(eps=eps_voxels, min_samples=min_samples).fit(np.stack(places, axis=1))
        cells[places] = clustering.labels_ + 1  # noise is -1
    return _by_first_voxel(cells)


def fill_from_nearest(
    cells: NDArray[Kind], inside: NDArray[np.bool_], *, spacing: Spacing | None = None
) -> NDArray[Kind]:
    """Give each voxel inside that no cell holds to the nearest cell.

    Parameters
    ----------
    cells : ndarray of int, shape (Z, Y, X)
        Labels, 0 where there is none.
    inside : ndarray of bool, shape (Z, Y, X)
        Where there must be a cell: its membrane too, and foreground that was left over.
    spacing : tuple of float, optional
        Voxel size (z, y, x) in µm, by which near is measured; without it voxels are cubes.

    Returns
    -------
    ndarray of int, shape (Z, Y, X)
        Labels of the same dtype; as they were if there is no cell at all.
    """
    lacking = inside & (cells == 0)
    filled = cells.copy()
    if lacking.any() and cells.any():
        nearest = ndi.distance_transform_edt(cells == 0, spacing, return_distances=False, return_indices=True)
        filled[lacking] = cells[tuple(axis[lacking] for axis in nearest)]
    return filled


def _depth(inside: NDArray[np.bool_], step: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance to what is not inside; from its places, which takes half the time of SciPy's own."""
    nearest = ndi.distance_transform_edt(inside, step, return_distances=False, return_indices=True)
    squares = np.zeros(inside.shape, np.float32)
    for there, here, width in zip(nearest, np.ogrid[tuple(map(slice, inside.shape))], step, strict=True):
        squares += np.square(np.float32(width) * (there - here.astype(np.int32)))
    return np.sqrt(squares)


def _summits(depth: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each voxel inside, flat, where the steepest way up over faces ends: at itself if none is higher."""
    way, highest = np.zeros(depth.shape, np.int64), depth.copy()
    for axis in range(3):
        stride = way.strides[axis] // way.itemsize
        level, best, first = (np.moveaxis(array, axis, 0) for array in (depth, highest, way))
        for here, there, ahead in ((slice(-1), slice(1, None), stride), (slice(1, None), slice(-1), -stride)):
            higher = level[there] > best[here]
            np.copyto(best[here], level[there], where=higher)
            np.copyto(first[here], ahead, where=higher)
    up = way.ravel() + np.arange(depth.size)
    moving = np.flatnonzero(depth)
    while len(moving):  # each round sees twice as far
        onward = up[moving]
        further = up[onward]
        moves = further != onward
        moving = moving[moves]
        up[moving] = further[moves]
    return up


def _forest(basins: NDArray[np.int32], depth: NDArray[np.float32], n_markers: int) -> NDArray[np.int32]:
    """For each basin, the first being the markers, that marker to which the deepest way leads, or 0."""
    number = max(int(basins.max()), n_markers) + 1
    one, two = _faces(basins)
    inside = (basins.ravel()[one] > 0) & (basins.ravel()[two] > 0)
    one, two = one[inside], two[inside]
    u, v, first, order = _pairs(basins.ravel()[one], basins.ravel()[two], number)
    lower = np.minimum(depth.ravel()[one], depth.ravel()[two])[order]
    passes = np.maximum.reduceat(lower, first) if len(lower) else lower
    # The background, 0, holds all markers by edges that cost least, so that nothing else joins two of them;
    # ranks leave no tie for a sort to break as it likes.
    cost = np.ones(n_markers + len(u))
    cost[n_markers + np.argsort(-passes, kind="stable")] += np.arange(1, len(u) + 1)
    # int32, since until 1.17.1 scipy's trees take no other indices
    ends = np.stack([np.r_[np.zeros(n_markers, int), u], np.r_[1 : n_markers + 1, v]]).astype(np.int32)
    tree = minimum_spanning_tree(coo_array((cost, tuple(ends)), shape=(number, number)).tocsr())
    tree.data[: tree.indptr[1]] = 0  # what lies in the background's row
    tree.eliminate_zeros()
    trees = connected_components(tree, directed=False)[1]
    marker = np.zeros(number, np.int32)
    marker[trees[1 : n_markers + 1]] = np.arange(1, n_markers + 1)
    return marker[trees]


def _faces(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat places of the two voxels of each face, inside the volume, across which the labels differ."""
    ones, twos = [], []
    for axis in range(3):
        differ = np.zeros(labels.shape, bool)
        along = np.moveaxis(labels, axis, 0)
        np.not_equal(along[1:], along[:-1], out=np.moveaxis(differ, axis, 0)[:-1])
        ones.append(np.flatnonzero(differ))
        twos.append(ones[-1] + differ.strides[axis])  # in bytes, which bools are
    return np.concatenate(ones), np.concatenate(twos)


def _pairs(one: NDArray[np.integer], two: NDArray[np.integer], number: int) -> tuple[NDArray[np.int64], ...]:
    """The two labels, below `number`, of each pair; where it begins in the order that is given last."""
    codes = np.minimum(one, two).astype(np.int64) * number + np.maximum(one, two)
    order = np.argsort(codes)
    codes = codes[order]
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[first] // number, codes[first] % number, first, order


def _by_first_voxel(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The labels renumbered, 1..n in the order of their first voxels."""
    flat = labels.ravel()
    first = np.full(int(flat.max(initial=0)) + 1, flat.size)
    first[flat[::-1]] = np.arange(flat.size)[::-1]  # of equal places the last one written stays
    first[0] = -1
    number = np.zeros(len(first), np.int32)
    number[np.argsort(first, kind="stable")] = np.arange(len(first))
    renumbered: NDArray[np.int32] = number[flat].reshape(labels.shape)
    return renumbered
