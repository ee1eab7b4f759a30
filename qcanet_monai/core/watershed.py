"""Masks to instances: the marker-based watershed of QCANet (Tokuoka et al. 2020, Methods)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.segmentation import relabel_sequential, watershed

from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError

Labels = NDArray[np.uint16] | NDArray[np.uint32]


class Instances(NamedTuple):
    """Labels (Z, Y, X), 0 background, 1..n without gaps, and those of them recovered at the border."""

    labels: Labels
    recovered: NDArray[np.int64]


def instances_from_masks(
    mask: NDArray[np.generic],
    markers: NDArray[np.integer] | None = None,
    *,
    spacing: Spacing,
    recover_border: bool = False,
    smallest_share: float = 0.0,
) -> Instances:
    """Divide a nuclear mask among its markers.

    With markers: watershed on the negative Euclidean distance transform of the mask, masked by it; a
    component of the mask that holds no marker disappears, as is wanted for polar bodies. Without any
    marker, or with ``markers=None`` (QCANet without NDN, 3D U-Net): the mask's 6-connected components.

    Parameters
    ----------
    mask
        Nuclear mask (Z, Y, X), foreground non-zero.
    markers
        Labelled markers (Z, Y, X), 0 where there is none.
    spacing
        Voxel size (z, y, x) in µm; distances are taken in µm.
    recover_border
        Keep components without a marker that touch the volume's border: a nucleus that the border cuts
        often has its centre outside.
    smallest_share
        Labels of less than this share of the median label's volume disappear: polar bodies and debris. Where
        half of all labels or more touch the volume's border, it is a piece of something larger, and those
        that it cuts stay. Labels recovered at the border neither count nor disappear, and a component all
        of whose labels are so small counts as unmarked there.

    Returns
    -------
    Instances
        Labels as uint16 (uint32 above 65,535), and which of them were recovered.

    Raises
    ------
    InputError
        If mask and markers differ in shape.
    """
    nuclear: NDArray[np.bool_] = np.asarray(mask != 0)
    if markers is not None and markers.shape != nuclear.shape:
        raise InputError(
            f"expected markers of the mask's shape {nuclear.shape}, got {markers.shape}: "
            "resample both to one grid"
        )
    components = label(nuclear, connectivity=1)
    if markers is None or not markers.any():
        return Instances(_compact(_without_small(components, smallest_share)), np.zeros(0, np.int64))
    labels = _without_small(_divide(nuclear, markers, components, spacing), smallest_share)
    last = int(labels.max())
    if recover_border:
        labels = _with_border(labels, components)
    compact = _compact(labels)
    return Instances(compact, np.unique(compact[labels > last]).astype(np.int64))


def _divide(
    mask: NDArray[np.bool_], markers: NDArray[np.integer], components: NDArray[np.integer], spacing: Spacing
) -> NDArray[np.integer]:
    """Watershed in the mask's bounding box; all of the result lies inside it."""
    box = ndi.find_objects(mask.astype(np.uint8))
    labels = np.zeros(mask.shape, np.int32)
    if not box or not (markers[mask] > 0).any():
        return labels
    # a margin of one voxel, for the distance to a background that lies just outside the box
    inner = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box[0])
    inside = mask[inner] & np.isin(components[inner], np.unique(components[mask & (markers > 0)]))
    distance = ndi.distance_transform_edt(mask[inner], sampling=spacing)
    labels[inner] = watershed(-distance, markers[inner], mask=inside)
    return labels


def _without_small(labels: NDArray[np.integer], share: float) -> NDArray[np.integer]:
    """Labels of at least that share of the median label's volume, and those that cannot be judged by it."""
    volumes = np.bincount(labels.ravel())
    volumes[0] = 0
    if not (share and volumes.any()):
        return labels
    kept = volumes >= share * np.median(volumes[volumes > 0])
    cut = _at_border(labels)
    if 2 * len(cut) >= np.count_nonzero(volumes):
        kept[cut] = True
    return np.where(kept, np.arange(len(volumes)), 0)[labels]


def _at_border(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Labels that touch one of the volume's six faces."""
    touching = [np.unique(np.take(labels, i, axis)) for axis in range(3) for i in (0, -1)]
    return np.setdiff1d(np.concatenate(touching), [0])


def _with_border(labels: NDArray[np.integer], components: NDArray[np.integer]) -> NDArray[np.integer]:
    """Add the components that hold no label and touch one of the volume's six faces."""
    unmarked = np.setdiff1d(_at_border(components), np.unique(components[labels > 0]))
    number = np.zeros(int(components.max()) + 1, np.int32)
    number[unmarked] = int(labels.max()) + np.arange(1, len(unmarked) + 1)
    added = number[components]
    return np.where(added > 0, added, labels)


def _compact(labels: NDArray[np.integer]) -> Labels:
    """Labels 1..n without gaps in the smallest dtype that label images use."""
    sequential = relabel_sequential(labels)[0]
    kind = np.uint16 if sequential.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
    compact: Labels = sequential.astype(kind)
    return compact
