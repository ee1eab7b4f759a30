"""Voxel-wise training targets built from instance labels.

In a target with several channels, the first is a weight and the others are 0 outside objects. Patch sampling
treats non-zero and NaN voxels of the other channels as foreground; NaN means not annotated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.core.instances.cell_classes import cell_classes, membrane_weights
from qcanet_monai.core.instances.density import density_map
from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.metrics.detection import centroids_um
from qcanet_monai.core.resample import Spacing
from qcanet_monai.core.targets.border_weights import border_weights
from qcanet_monai.errors import InputError

Target = NDArray[np.float32]

_BALL = 3.0  # radius of NDN's balls, in voxels

ANNOTATIONS = ("instances", "centres", "mask")
"""Kinds of annotation: instance labels, only markers at the centres, or only a foreground mask."""


def joint_target(
    labels: NDArray[np.integer],
    *,
    spacing: Spacing,
    sigma_um: float = 1.0,
    border: float = 10.0,
    border_um: float = 2.0,
    annotation: str = "instances",
) -> Target:
    """Build weight, mask and density (3, Z, Y, X) for detection and segmentation.

    Ram et al. (2018), joint cell nuclei detection and segmentation, section 2.2.

    Parameters
    ----------
    labels
        Instance labels (Z, Y, X), or markers or a foreground mask, as `annotation` states.
    spacing
        Voxel size (z, y, x) in µm.
    sigma_um
        Standard deviation in µm of the Gaussian of height 1 at each centre.
    border, border_um
        Arguments `w0` and `sigma_um` of ``core.targets.border_weights``, for the cross-entropy weight.
    annotation
        One of `ANNOTATIONS`. Channels that the annotation does not define are NaN.

    Raises
    ------
    InputError
        If the annotation is unknown.
    """
    if annotation not in ANNOTATIONS:
        raise InputError(f"expected annotation to be one of {', '.join(ANNOTATIONS)}, got {annotation!r}")
    target = np.full((3, *labels.shape), np.nan, np.float32)
    if annotation != "centres":
        target[0] = border_weights(labels, spacing=spacing, w0=border, sigma_um=border_um)
        target[1] = labels > 0
    if annotation != "mask":
        objects = labels if annotation == "instances" else markers_from_mask(labels)
        places = centroids_um(objects, spacing=spacing)
        target[2] = density_map(places, labels.shape, spacing=spacing, sigma_um=sigma_um)
    return target


def qcanet_target(labels: NDArray[np.integer], *, spacing: Spacing) -> Target:
    """Build the classes (1, Z, Y, X) of NSN and NDN together.

    The value is 1 in a nucleus, plus 2 in a ball of 6 voxels in diameter at the centre of a nucleus.

    Parameters
    ----------
    labels
        Instance labels (Z, Y, X) on cubic voxels.
    spacing
        Voxel size (z, y, x) in µm.
    """
    centres = np.rint(centroids_um(labels, spacing=spacing) / spacing).astype(int)
    target = (labels > 0).astype(np.float32)
    if len(centres):
        elsewhere = np.ones(labels.shape, bool)
        elsewhere[tuple(centres.T)] = False
        target[ndi.distance_transform_edt(elsewhere) <= _BALL] += 2
    return target[None]


def cell_target(labels: NDArray[np.integer], *, spacing: Spacing, width_voxels: float = 1.5) -> Target:  # noqa: ARG001
    """Build weight and class (2, Z, Y, X) for densely packed cells.

    The classes are 0 background, 1 membrane and 2 cell interior. Wang et al. (2022),
    doi:10.1038/s41598-021-04048-3.

    Parameters
    ----------
    labels
        Instance labels (Z, Y, X).
    spacing
        Ignored, because the membrane width is in voxels.
    width_voxels
        Membrane width in voxels, see `cell_classes`.
    """
    classes = cell_classes(labels, width_voxels=width_voxels)
    return np.stack([membrane_weights(classes), classes.astype(np.float32)])


def depth_target(labels: NDArray[np.integer], *, spacing: Spacing) -> Target:
    """Build each nucleus's depth (1, Z, Y, X): 1 in its middle, 0 on its surface.

    The depth is the distance to the nucleus's own surface, relative to its maximum. It has one peak in a
    nucleus of any size, and a valley between two that touch. A cut at the volume's border does not count as
    surface.

    Parameters
    ----------
    labels
        Instance labels (Z, Y, X).
    spacing
        Voxel size (z, y, x) in µm.
    """
    depth = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndi.find_objects(labels.astype(np.int32, copy=False)), 1):
        if box is None:
            continue
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        own = labels[around] == number
        if own.all():  # no surface in view
            depth[around] = 1
            continue
        distance = ndi.distance_transform_edt(own, sampling=spacing)
        depth[around][own] = distance[own] / distance.max()
    return depth[None]


def occupancy(height: Target) -> Target:
    """Return the fraction of each voxel that lies inside an outline, float32.

    The outline is flat within a voxel, so that the fraction is 0.5 where it passes through the centre.

    Parameters
    ----------
    height
        Any quantity (Z, Y, X) that is 0 on the outline and positive inside.
    """
    steep = np.sqrt(sum(np.square(slope) for slope in np.gradient(height)))
    inside: Target = np.clip(height / np.maximum(steep, np.float32(1e-6)) + np.float32(0.5), 0, 1)
    return inside


def mask_target(labels: NDArray[np.integer], *, spacing: Spacing) -> Target:  # noqa: ARG001
    """Convert labels (Z, Y, X) to a float32 foreground mask (1, Z, Y, X), 0 or 1."""
    return (labels > 0)[None].astype(np.float32)
