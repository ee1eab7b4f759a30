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
    image: NDArray[np.generic] | None = None,
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
    image
        Grey values (Z, Y, X), by which the light of a label is measured: its sum above the median of what is
        outside the mask. Without an image every voxel shines alike.
    smallest_share
        Labels with less than this share of the median label's light disappear: polar bodies and debris hold
        less DNA than a nucleus, and a condensed nucleus holds no less for being small. Labels recovered at
        the border neither count nor disappear, and a component all of whose labels go counts as unmarked
        there.

    Returns
    -------
    Instances
        Labels as uint16 (uint32 above 65,535), and which of them were recovered.

    Raises
    ------
    InputError
        If mask, markers and image differ in shape.
    """
    nuclear: NDArray[np.bool_] = np.asarray(mask != 0)
    for name, other in (("markers", markers), ("an image", image)):
        if other is not None and other.shape != nuclear.shape:
            raise InputError(
                f"expected {name} of the mask's shape {nuclear.shape}, got {other.shape}: "
                "resample both to one grid"
            )
    components = label(nuclear, connectivity=1)
    if markers is None or not markers.any():
        labels = _without_dim(components, nuclear, image, smallest_share)
        return Instances(_compact(labels), np.zeros(0, np.int64))
    labels = _divide(nuclear, markers, components, spacing)
    labels = _without_dim(labels, nuclear, image, smallest_share)
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


def _without_dim(
    labels: NDArray[np.integer],
    nuclear: NDArray[np.bool_],
    image: NDArray[np.generic] | None,
    share: float,
) -> NDArray[np.integer]:
    """Labels that hold at least that share of the median label's light; none lies outside the mask."""
    own = labels[nuclear]
    numbers = np.unique(own[own > 0])
    if not (share and len(numbers)):
        return labels
    light = None
    if image is not None:
        inside, outside = (image[where].astype(np.float64) for where in (nuclear, ~nuclear))
        light = inside - (np.median(outside) if outside.size else 0)
    total = np.bincount(own, light)
    kept = np.zeros(len(total), labels.dtype)
    bright = numbers[total[numbers] >= share * np.median(total[numbers])]
    kept[bright] = bright
    return kept[labels]


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
