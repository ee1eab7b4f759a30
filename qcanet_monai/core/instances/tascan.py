"""Cell instances from a foreground split by membranes: TASCAN and DBSCAN.

Wang et al. (2022), 3DCellSeg, doi:10.1038/s41598-021-04048-3. Predicted membranes have small holes that
connect the foreground of neighbouring cells. TASCAN cuts the foreground into super-voxels and merges those
that touch over more than a hole.
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

MIN_AREA = 30  # voxel faces; the authors' value for all of their data
EPS_VOXELS, MIN_SAMPLES = 2.5, 75  # 75 of the 81 voxels within 2.5; the best of the values tried

_APART = 3.0  # radius, in voxels of the finest axis, in which a marker is the highest peak
_TIES = np.float32(1e-3)  # small compared with the difference of two distances

Kind = TypeVar("Kind", bound=np.integer)


def supervoxels(foreground: NDArray[np.bool_], *, spacing: Spacing | None = None) -> NDArray[np.int32]:
    """Cut a foreground at its narrow places by a watershed on its depth.

    The depth is the distance to background; the volume's border does not count as background. Markers are
    depth peaks, the highest within three voxels, that share no face with background. Adjacent peaks form one
    marker. The watershed is a minimum spanning forest of the catchment basins, faster than flooding voxel by
    voxel: Cousty et al. (2009), Watershed cuts, doi:10.1109/TPAMI.2008.173.

    Parameters
    ----------
    foreground : ndarray of bool, shape (Z, Y, X)
        Interior of the cells, without membranes.
    spacing : tuple of float, optional
        Voxel size (z, y, x) in µm; only the ratios matter. None means cubic voxels.

    Returns
    -------
    ndarray of int32, shape (Z, Y, X)
        Super-voxels 1..n; 0 outside the foreground and in 6-connected components without a marker, such as
        sheets and threads up to two voxels thick.
    """
    inside = np.asarray(foreground, bool)
    if inside.all():
        return np.ones(inside.shape, np.int32)  # without background, distances are undefined
    step = np.ones(3) if spacing is None else np.divide(spacing, min(spacing))
    depth = _depth(inside, step)
    reach = np.maximum(np.rint(_APART / step), 1).astype(int)
    peaks = ndi.binary_erosion(inside, border_value=1)
    peaks &= depth == ndi.maximum_filter(depth, tuple(2 * reach + 1))
    markers, n_markers = ndi.label(peaks, np.ones((3, 3, 3)), output=np.int32)
    # Ties go to the voxel with deeper surroundings, so that a cut passes through the middle of a hole. The
    # mean around a voxel differs from its depth by less than two steps, so peaks stay highest.
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
    """Merge super-voxels that touch over a large area (TASCAN).

    Two super-voxels merge if they share `min_area` faces, or half of the surface of one of them. The surface
    is the number of faces shared with anything else in the volume. Cells are connected components of the
    merge graph, so the order does not matter. Algorithm 1 of Wang et al. (2022).

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        Super-voxels, 0 is background; labels may have gaps.
    min_area : int
        Minimum number of shared voxel faces, larger than a hole in a membrane.

    Returns
    -------
    ndarray of int32, shape (Z, Y, X)
        Cells 1..n, numbered by their first voxel in raster order.

    Raises
    ------
    InputError
        If `min_area` is below 1, which would merge everything that touches.
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
    cells[0] = 0  # background, which merges with nothing
    return _by_first_voxel(cells[labels])


def dbscan(
    foreground: NDArray[np.bool_], *, eps_voxels: float = EPS_VOXELS, min_samples: int = MIN_SAMPLES
) -> NDArray[np.int32]:
    """Cluster foreground voxels by density (DBSCAN), slower than TASCAN.

    Ester et al. (1996), A density-based algorithm for discovering clusters in large spatial databases with
    noise, KDD. Uses about 8 bytes of memory per neighbour of each voxel.

    Parameters
    ----------
    foreground : ndarray of bool, shape (Z, Y, X)
        Interior of the cells, without membranes.
    eps_voxels : float
        Neighbourhood radius in voxels.
    min_samples : int
        Minimum number of neighbours of a core voxel, including the voxel itself. Values well below the number
        of voxels in the neighbourhood merge cells through holes in membranes.

    Returns
    -------
    ndarray of int32, shape (Z, Y, X)
        Cells 1..n, numbered by their first voxel in raster order; 0 is background and noise.

    Raises
    ------
    InputError
        If `eps_voxels` is not above 0, or `min_samples` is below 1.
    """
    from sklearn.cluster import DBSCAN  # slow to import

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
    """Assign unlabelled voxels of a mask to the nearest cell; return a copy.

    Parameters
    ----------
    cells : ndarray of int, shape (Z, Y, X)
        Labels, 0 where unlabelled; returned unchanged if all are 0.
    inside : ndarray of bool, shape (Z, Y, X)
        Voxels that must belong to a cell, including membranes and unclustered foreground.
    spacing : tuple of float, optional
        Voxel size (z, y, x) in µm, used for distances. None means cubic voxels.
    """
    lacking = inside & (cells == 0)
    filled = cells.copy()
    if lacking.any() and cells.any():
        nearest = ndi.distance_transform_edt(cells == 0, spacing, return_distances=False, return_indices=True)
        filled[lacking] = cells[tuple(axis[lacking] for axis in nearest)]
    return filled


def _depth(inside: NDArray[np.bool_], step: NDArray[np.float64]) -> NDArray[np.float32]:
    """Compute distances to the background in half the time of SciPy's distances."""
    nearest = ndi.distance_transform_edt(inside, step, return_distances=False, return_indices=True)
    squares = np.zeros(inside.shape, np.float32)
    for there, here, width in zip(nearest, np.ogrid[tuple(map(slice, inside.shape))], step, strict=True):
        squares += np.square(np.float32(width) * (there - here.astype(np.int32)))
    return np.sqrt(squares)


def _summits(depth: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the flat index of the maximum that steepest ascent reaches, per voxel."""
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
    while len(moving):  # each iteration doubles the path length
        onward = up[moving]
        further = up[onward]
        moves = further != onward
        moving = moving[moves]
        up[moving] = further[moves]
    return up


def _forest(basins: NDArray[np.int32], depth: NDArray[np.float32], n_markers: int) -> NDArray[np.int32]:
    """Map each basin to the marker reached over the deepest passes, or to 0."""
    number = max(int(basins.max()), n_markers) + 1
    one, two = _faces(basins)
    inside = (basins.ravel()[one] > 0) & (basins.ravel()[two] > 0)
    one, two = one[inside], two[inside]
    u, v, first, order = _pairs(basins.ravel()[one], basins.ravel()[two], number)
    lower = np.minimum(depth.ravel()[one], depth.ravel()[two])[order]
    passes = np.maximum.reduceat(lower, first) if len(lower) else lower
    # Edges of lowest cost connect background (0) to all markers, so that no other edge joins two markers.
    # Ranks avoid ties, which a sort would break arbitrarily.
    cost = np.ones(n_markers + len(u))
    cost[n_markers + np.argsort(-passes, kind="stable")] += np.arange(1, len(u) + 1)
    # SciPy's trees accept only int32 indices up to version 1.17.1
    ends = np.stack([np.r_[np.zeros(n_markers, int), u], np.r_[1 : n_markers + 1, v]]).astype(np.int32)
    tree = minimum_spanning_tree(coo_array((cost, tuple(ends)), shape=(number, number)).tocsr())
    tree.data[: tree.indptr[1]] = 0  # cut the edges of the background
    tree.eliminate_zeros()
    trees = connected_components(tree, directed=False)[1]
    marker = np.zeros(number, np.int32)
    marker[trees[1 : n_markers + 1]] = np.arange(1, n_markers + 1)
    return marker[trees]


def _faces(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return flat indices of face-adjacent voxel pairs whose labels differ."""
    ones, twos = [], []
    for axis in range(3):
        differ = np.zeros(labels.shape, bool)
        along = np.moveaxis(labels, axis, 0)
        np.not_equal(along[1:], along[:-1], out=np.moveaxis(differ, axis, 0)[:-1])
        ones.append(np.flatnonzero(differ))
        twos.append(ones[-1] + differ.strides[axis])  # strides are in bytes, one per bool
    return np.concatenate(ones), np.concatenate(twos)


def _pairs(one: NDArray[np.integer], two: NDArray[np.integer], number: int) -> tuple[NDArray[np.int64], ...]:
    """Group pairs by label: both labels, first index in the sort order, sort order."""
    codes = np.minimum(one, two).astype(np.int64) * number + np.maximum(one, two)
    order = np.argsort(codes)
    codes = codes[order]
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[first] // number, codes[first] % number, first, order


def _by_first_voxel(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Renumber labels 1..n by their first voxel in raster order."""
    flat = labels.ravel()
    first = np.full(int(flat.max(initial=0)) + 1, flat.size)
    first[flat[::-1]] = np.arange(flat.size)[::-1]  # the last write to an index wins
    first[0] = -1
    number = np.zeros(len(first), np.int32)
    number[np.argsort(first, kind="stable")] = np.arange(len(first))
    renumbered: NDArray[np.int32] = number[flat].reshape(labels.shape)
    return renumbered
