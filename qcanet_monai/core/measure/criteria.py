"""Quantitative criteria of an embryo at one time and over all times, from the table of its nuclei."""

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
"""Columns of `core.measure.nuclei` of which a time point has mean, spread and sum."""

INNER_SHARE = 0.4
"""Of the embryo's radius, within which nuclei are those of inner cells (Tokuoka et al. 2020, Methods)."""

INNER_FROM = 16
"""Cells from which on there are inner and outer ones: a morula."""

_CENTROID = ("centroid_z_um", "centroid_y_um", "centroid_x_um")


class Extent(NamedTuple):
    """Where an embryo is: the mean of its nuclei's centroids (z, y, x) and the distance of the farthest.

    In µm; NaN without nuclei.
    """

    centre_um: Floats
    radius_um: float


def centroids_of(nuclei: Table) -> Floats:
    """Centroids (n, 3) in µm, axes (z, y, x), of a table of nuclei."""
    return np.column_stack([nuclei[name].astype(float) for name in _CENTROID])


def extent(centroids_um: ArrayLike) -> Extent:
    """Centre and radius of an embryo from all centroids (n, 3) in µm (Tokuoka et al. 2020, Methods)."""
    centroids = _points(centroids_um)
    if not len(centroids):
        return Extent(np.full(3, math.nan), math.nan)
    centre = centroids.mean(axis=0)
    return Extent(centre, float(np.linalg.norm(centroids - centre, axis=1).max()))


def is_inner(centroids_um: ArrayLike, *, share: float = INNER_SHARE) -> NDArray[np.bool_]:
    """Which nuclei are those of inner cells: within `share` of the radius around the centre.

    Parameters
    ----------
    centroids_um
        Centroids (n, 3) in µm of all nuclei of one time point.
    share
        From 0 to 1; the paper's r.

    Returns
    -------
    ndarray of bool, shape (n,)
        The rest are outer ones (Tokuoka et al. 2020, Methods). It says something from 16 cells on.

    Raises
    ------
    InputError
        If `share` lies outside of [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"expected a share of the embryo's radius from 0 to 1, got {share}")
    centroids = _points(centroids_um)
    centre, radius = extent(centroids)
    inside: NDArray[np.bool_] = np.linalg.norm(centroids - centre, axis=1) <= share * radius
    return inside


def timepoint_criteria(nuclei: Table) -> dict[str, float | int]:
    """Criteria of one time point.

    Parameters
    ----------
    nuclei
        Table of `core.measure.nuclei` of all nuclei of the time point.

    Returns
    -------
    dict
        ``n_nuclei``; for each of `MEASURES` its ``mean_``, ``sd_`` (n - 1, NaN for a single nucleus) and
        ``sum_``; ``n_inner`` and ``n_outer``, NaN below 16 nuclei; the embryo's ``centre_z_um``,
        ``centre_y_um``, ``centre_x_um`` and ``radius_um``, see `extent`.
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
    """Space fill factor: nuclei in spherical shells around the embryo's centre, over all times.

    Parameters
    ----------
    centroids_um
        Centroids (n, 3) in µm of each time point; the centre is each time point's own.
    edges_um
        Ascending distances (m + 1,) between which the m shells lie; the first includes its lower one, and
        all include their upper ones.

    Returns
    -------
    ndarray of int64, shape (m,)
        Centroids in each shell (Tokuoka et al. 2020, supplementary fig. 6).
    """
    edges = np.asarray(edges_um, float)
    if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) <= 0).any():
        raise InputError(f"expected ascending distances between which shells lie, got {edges.tolist()}")
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
