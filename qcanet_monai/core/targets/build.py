"""What networks learn from instance labels: the voxel-wise targets that their losses read.

Of several channels the first one is a weight, the others are 0 outside of the objects: patches are cut
about voxels where one of those is not, and anywhere where what is not annotated is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.instances.cell_classes import cell_classes, membrane_weights
from qcanet_monai.core.instances.density import density_map
from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.metrics.detection import centroids_um
from qcanet_monai.core.resample import Spacing
from qcanet_monai.core.targets.border_weights import border_weights
from qcanet_monai.errors import InputError

Target = NDArray[np.float32]

ANNOTATIONS = ("instances", "centres", "mask")
"""What an image may come with: labels, or only markers at the centres, or only a foreground mask."""


def joint_target(
    labels: NDArray[np.integer],
    *,
    spacing: Spacing,
    sigma_um: float = 1.0,
    border: float = 10.0,
    border_um: float = 2.0,
    annotation: str = "instances",
) -> Target:
    """Weight of the cross-entropy, mask and density (3, Z, Y, X) of joint detection and segmentation.

    Parameters
    ----------
    labels
        Instance labels (Z, Y, X), or the marker or foreground mask that stands in for them.
    spacing
        Voxel size (z, y, x) in µm.
    sigma_um
        Standard deviation of each centre's Gaussian, whose peak is 1.
    border, border_um
        See ``core.targets.border_weights``.
    annotation
        One of `ANNOTATIONS`. Channels that it does not tell are NaN.

    Raises
    ------
    InputError
        If there is no such annotation.

    Notes
    -----
    Ram et al. (2018), joint cell nuclei detection and segmentation, section 2.2.
    """
    if annotation not in ANNOTATIONS:
        raise InputError(f"expected an annotation of {', '.join(ANNOTATIONS)}, got {annotation!r}")
    target = np.full((3, *labels.shape), np.nan, np.float32)
    if annotation != "centres":
        target[0] = border_weights(labels, spacing=spacing, w0=border, sigma_um=border_um)
        target[1] = labels > 0
    if annotation != "mask":
        objects = labels if annotation == "instances" else markers_from_mask(labels)
        places = centroids_um(objects, spacing=spacing)
        target[2] = density_map(places, labels.shape, spacing=spacing, sigma_um=sigma_um)
    return target


def cell_target(labels: NDArray[np.integer], *, spacing: Spacing, width_voxels: float = 1.5) -> Target:  # noqa: ARG001
    """Weight and class (2, Z, Y, X): 0 background, 1 membrane, 2 a cell's inside, of cells side by side.

    Parameters
    ----------
    labels
        Instance labels (Z, Y, X).
    spacing
        Not read: a membrane is as wide as the grid can show.
    width_voxels
        How far the membrane reaches into a cell.

    Notes
    -----
    Wang et al. (2022), doi:10.1038/s41598-021-04048-3.
    """
    classes = cell_classes(labels, width_voxels=width_voxels)
    return np.stack([membrane_weights(classes), classes.astype(np.float32)])


def mask_target(labels: NDArray[np.integer], *, spacing: Spacing) -> Target:  # noqa: ARG001
    """Foreground (1, Z, Y, X), 0 or 1, of labels (Z, Y, X)."""
    return (labels > 0)[None].astype(np.float32)
