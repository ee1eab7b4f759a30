"""Quantitative criteria of an embryo, per time point and over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcanet_monai.core.measure.nuclei import Table
from qcanet_monai.errors import InputError

Floats = NDArray[np.float64]

MEASURES = (
    "volume_um3",
    "surface_contact_um2",
    "surface_mesh_um2",
    "specific_surface_contact_per_um",
    "specific_surface_mesh_per_um",
)
"""Columns of `core.measure.nuclei` summarised per time point by mean, standard deviation and sum."""

INNER_SHARE = 0.4
"""Fraction of the embryo's radius that contains the inner cells (Tokuoka et al. 2020, Methods)."""

INNER_FROM = 16
"""Minimum number of cells (morula) for a division into inner and outer cells."""

_CENTROID = ("centroid_z_um", "centroid_y_um", "centroid_x_um")


class Extent(NamedTuple):
    """Centre and radius of an embryo in µm; NaN without nuclei.

    The centre is the mean of the nuclear centroids (z, y, x); the radius is the distance from the centre to
    the farthest centroid (Tokuoka et al. 2020, Methods).
    """

    centre_um: Floats
    radius_um: float


def centroids_of(nuclei: Table) -> Floats:
    """Return the centroids (n, 3), (z, y, x) in µm, of a table of nuclei."""
    return np.column_stack([nuclei[name].astype(float) for name in _CENTROID])


def extent(centroids_um: ArrayLike) -> Extent:
    """Compute centre and radius of an embryo from all centroids (n, 3) in µm."""
    centroids = _points(centroids_um)
    if not len(centroids):
        return Extent(np.full(3, math.nan), math.nan)
    centre = centroids.mean(axis=0)
    return Extent(centre, float(np.linalg.norm(centroids - centre, axis=1).max()))


def is_inner(centroids_um: ArrayLike, *, share: float = INNER_SHARE) -> NDArray[np.bool_]:
    """Mark the nuclei of inner cells, within `share` of the radius, as bool (n,).

    The others belong to outer cells (Tokuoka et al. 2020, Methods). The division is meaningful from 16 cells
    on.

    Parameters
    ----------
    centroids_um
        Centroids (n, 3) in µm of all nuclei of one time point.
    share
        Fraction of the embryo's radius, in [0, 1]; r in the paper.

    Raises
    ------
    InputError
        If `share` is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"expected a share of the embryo's radius from 0 to 1, got {share}")
    centroids = _points(centroids_um)
    centre, radius = extent(centroids)
    inside: NDArray[np.bool_] = np.linalg.norm(centroids - centre, axis=1) <= share * radius
    return inside


def timepoint_criteria(nuclei: Table) -> dict[str, float | int]:
    """Summarise the nuclei of one time point.

    Parameters
    ----------
    nuclei
        Table of `core.measure.nuclei` with all nuclei of the time point.

    Returns
    -------
    dict
        ``n_nuclei``; ``mean_``, ``sd_`` (n - 1, NaN for a single nucleus) and ``sum_`` of each of `MEASURES`;
        ``n_inner`` and ``n_outer``, NaN below 16 nuclei; ``centre_z_um``, ``centre_y_um``, ``centre_x_um``
        and ``radius_um`` of the embryo, see `extent`.
    """
    count = len(nuclei["label"])
    row: dict[str, float | int] = {"n_nuclei": count}
    for name in MEASURES:
        values = nuclei[name].astype(float)
        row[f"mean_{name}"] = float(values.mean()) if count else math.nan
        row[f"sd_{name}"] = float(values.std(ddof=1)) if count > 1 else math.nan
        row[f"sum_{name}"] = float(values.sum())
    centroids = centroids_of(nuclei)
    inner = int(is_inner(centroids).sum()) if count >= INNER_FROM else math.nan
    centre, radius = extent(centroids)
    row |= {"n_inner": inner, "n_outer": count - inner}
    row |= dict(zip(("centre_z_um", "centre_y_um", "centre_x_um"), map(float, centre), strict=True))
    return row | {"radius_um": radius}


def space_fill(centroids_um: Sequence[ArrayLike], *, edges_um: ArrayLike) -> NDArray[np.int64]:
    """Compute the space fill factor, the number of nuclei in spherical shells.

    Parameters
    ----------
    centroids_um
        Centroids (n, 3) in µm of each time point. Shells surround the embryo's centre at that time point.
    edges_um
        Ascending radii (m + 1,) in µm between shells. A shell includes its outer radius; the first also
        includes its inner radius.

    Returns
    -------
    ndarray of int64, shape (m,)
        Centroids in each shell over all time points (Tokuoka et al. 2020, supplementary fig. 6).
    """
    edges = np.asarray(edges_um, float)
    if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise InputError(f"expected at least two ascending shell radii in µm, got {edges.tolist()}")
    counts = np.zeros(len(edges) - 1, np.int64)
    for points in map(_points, centroids_um):
        distance = np.linalg.norm(points - extent(points).centre_um, axis=1)
        shell = np.where(distance == edges[0], 0, np.searchsorted(edges, distance) - 1)
        inside = (shell >= 0) & (shell < len(counts))
        counts += np.bincount(shell[inside], minlength=len(counts))
    return counts


def _points(centroids_um: ArrayLike) -> Floats:
    points = np.asarray(centroids_um, float)
    if points.size == 0:
        return np.zeros((0, 3))
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"expected centroids of shape (n, 3), axes (z, y, x) in µm, got {points.shape}")
    return points
