"""Measurements of each nucleus; column names include the unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import marching_cubes, mesh_surface_area

from qcanet_monai.core.resample import Spacing

Table = dict[str, NDArray[np.generic]]

_SMOOTHING_VOXELS = 0.7  # a mesh of unsmoothed voxels overestimates the area of a ball by 8 %


def nucleus_table(labels: NDArray[np.integer], *, spacing: Spacing) -> Table:
    """Measure every nucleus of a label image.

    Parameters
    ----------
    labels
        Label image (Z, Y, X), 0 is background.
    spacing
        Voxel size (z, y, x) in µm.

    Returns
    -------
    dict of arrays, one entry per nucleus in the order of the labels
        ``label``, ``n_voxels`` and ``volume_um3``; ``surface_contact_um2``, the number of voxels 6-connected
        to background times the voxel volume to the power 2/3 (Tokuoka et al. 2020, Methods);
        ``surface_mesh_um2``, the area of the mesh through the smoothed mask (Lewiner et al. 2003);
        ``specific_surface_contact_per_um`` and ``specific_surface_mesh_per_um``, surface / volume;
        ``centroid_z_um``, ``centroid_y_um`` and ``centroid_x_um`` from the centre of the first voxel;
        ``touches_border``, 1 if the volume's border cuts the nucleus: volume and surface are lower bounds.
    """
    boxes = ndi.find_objects(labels)
    present = [(number, box) for number, box in enumerate(boxes, 1) if box is not None]
    rows = [_measure(labels, number, box, spacing) for number, box in present]
    numbers = np.array([number for number, _ in present], np.int64)
    columns = list(zip(*rows, strict=True)) if rows else [()] * 7
    n_voxels = np.array(columns[0], np.int64)
    volume = n_voxels * float(np.prod(spacing))
    contact = np.array(columns[1], float) * float(np.prod(spacing)) ** (2 / 3)
    mesh = np.array(columns[2], float)
    return {
        "label": numbers,
        "n_voxels": n_voxels,
        "volume_um3": volume,
        "surface_contact_um2": contact,
        "surface_mesh_um2": mesh,
        "specific_surface_contact_per_um": contact / volume,
        "specific_surface_mesh_per_um": mesh / volume,
        "centroid_z_um": np.array(columns[3], float),
        "centroid_y_um": np.array(columns[4], float),
        "centroid_x_um": np.array(columns[5], float),
        "touches_border": np.array(columns[6], np.int64),
    }


def label_means(labels: NDArray[np.integer], values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Compute the mean value of each label, shape (n,), in the order of the labels.

    Parameters
    ----------
    labels
        Label image (Z, Y, X), 0 is background.
    values
        Values to average (Z, Y, X).
    """
    n = int(labels.max(initial=0))
    sums, counts = np.zeros(n + 1), np.zeros(n + 1)
    for plane, part in zip(labels, values, strict=True):  # plane by plane, because bincount copies to 64 bits
        sums += np.bincount(plane.ravel(), part.ravel(), minlength=n + 1)
        counts += np.bincount(plane.ravel(), minlength=n + 1)
    present = counts[1:] > 0
    return sums[1:][present] / counts[1:][present]


def _measure(
    labels: NDArray[np.integer], number: int, box: tuple[slice, ...], spacing: Spacing
) -> tuple[int, int, float, float, float, float, int]:
    grown = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    around = labels[grown]
    nucleus = around == number
    outside = around == 0
    beside = np.zeros_like(nucleus)
    for axis in range(3):
        (left, right), (from_left, from_right) = _shifted(beside, axis), _shifted(outside, axis)
        left |= from_right
        right |= from_left
    beside &= nucleus
    n_voxels = int(np.count_nonzero(nucleus))
    centre = []
    for axis, (s, step) in enumerate(zip(grown, spacing, strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        along = np.count_nonzero(nucleus, axis=others)
        centre.append((float(along @ np.arange(len(along))) / n_voxels + s.start) * step)
    border = any(s.start == 0 or s.stop == size for s, size in zip(box, labels.shape, strict=True))
    area = mesh_area_um2(labels[box] == number, spacing=spacing)
    z, y, x = centre
    return n_voxels, int(np.count_nonzero(beside)), area, z, y, x, int(border)


def _shifted(array: NDArray[np.bool_], axis: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return views of neighbouring voxel pairs along an axis."""
    lead = (slice(None),) * axis
    return array[(*lead, slice(None, -1))], array[(*lead, slice(1, None))]


def mesh_area_um2(mask: NDArray[np.bool_], *, spacing: Spacing) -> float:
    """Compute the area in µm² of the mesh around a mask (Z, Y, X).

    The cut at the array's border counts as surface. The mask is slightly smoothed, unless smoothing removes
    it.
    """
    padded = np.pad(mask, 3).astype(np.float32)
    smooth = ndi.gaussian_filter(padded, _SMOOTHING_VOXELS)
    field = smooth if smooth.max() > 0.5 else padded
    vertices, faces, _, _ = marching_cubes(field, 0.5, spacing=spacing)
    return float(mesh_surface_area(vertices, faces))
