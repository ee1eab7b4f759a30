"""Marker-based watershed of QCANet (Tokuoka et al. 2020, Methods)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.segmentation import watershed

from qcanet_monai.core.instances.instances import Instances, Labels
from qcanet_monai.core.instances.markers import markers_from_mask, markers_from_probability
from qcanet_monai.core.outline import outline_fraction, outline_threshold
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError

LANDSCAPES = ("distance", "depth")


def nuclei_from_probabilities(
    region: NDArray[np.float32],
    centre: NDArray[np.float32] | None = None,
    *,
    image: NDArray[np.generic],
    spacing: Spacing,
    threshold: float = 0.5,
    outline: str | float | None = None,
    min_size: int = 1,
    marker_threshold: float = 0.5,
    marker_min_size: int = 1,
    marker_height: float = 0.0,
    landscape: str = "distance",
    min_relative_intensity: float = 0.0,
    recover_border: bool = False,
) -> Instances:
    """Split the nuclear regions of NSN among the centres of NDN.

    Tokuoka et al. (2020). The result has `region` as its foreground.

    Parameters
    ----------
    region
        Nuclear probability (1, Z, Y, X).
    centre
        Probability of a nuclear centre (1, Z, Y, X); None labels connected components.
    image
        Intensities (Z, Y, X).
    spacing
        Voxel size (z, y, x) in µm.
    threshold, min_size
        Minimum probability of mask voxels; minimum component size in voxels.
    outline
        Fraction of their light at which nuclei end, or its name (``core.outline``); None keeps `threshold`.
    marker_threshold, marker_min_size
        The same for markers.
    marker_height
        Least descent between two markers, see `markers_from_probability`; 0 as Tokuoka et al. (2020).
    landscape
        What the watershed floods: the ``distance`` to the surface of the mask (Tokuoka et al. 2020), or the
        ``depth`` that NDN predicts.
    min_relative_intensity, recover_border
        See `instances_from_masks`.

    Raises
    ------
    InputError
        If the landscape or the outline is unknown.
    """
    if landscape not in LANDSCAPES:
        raise InputError(f"expected a landscape of {', '.join(LANDSCAPES)}, got {landscape!r}")
    fraction = None if outline is None else outline_fraction(outline)
    markers = None
    if centre is not None:
        markers = markers_from_probability(
            centre[0], threshold=marker_threshold, height=marker_height, min_size=marker_min_size
        )

    def split(least: float) -> Instances:
        mask: NDArray[np.bool_] = region[0] >= least
        if min_size > 1:
            mask = markers_from_mask(mask, min_size=min_size) > 0
        return instances_from_masks(
            mask,
            markers,
            spacing=spacing,
            depth=centre[0] if centre is not None and landscape == "depth" else None,
            recover_border=recover_border,
            image=image,
            min_relative_intensity=min_relative_intensity,
        )

    found = split(threshold)
    if fraction is not None:
        threshold = outline_threshold(region[0], found.labels, image, spacing=spacing, fraction=fraction)
        found = split(threshold)
    return found._replace(foreground=region[0], level=threshold)


def instances_from_masks(
    mask: NDArray[np.generic],
    markers: NDArray[np.integer] | None = None,
    *,
    spacing: Spacing,
    depth: NDArray[np.floating] | None = None,
    recover_border: bool = False,
    image: NDArray[np.generic] | None = None,
    min_relative_intensity: float = 0.0,
) -> Instances:
    """Split a nuclear mask among its markers.

    With markers, a watershed on the negative Euclidean distance transform splits the mask, or on the negative
    `depth`. Components without
    a marker are dropped, which removes polar bodies. Without any marker, or with ``markers=None`` (QCANet
    without NDN, 3D U-Net), the labels are the 6-connected components of the mask.

    Parameters
    ----------
    mask
        Nuclear mask (Z, Y, X), foreground non-zero.
    markers
        Labelled markers (Z, Y, X), 0 is background.
    spacing
        Voxel size (z, y, x) in µm, used for distances.
    depth
        Depth within nuclei (Z, Y, X), with a valley between neighbours.
    recover_border
        Keep components without a marker that touch the volume's border. A nucleus cut by the border often has
        its centre outside.
    image
        Intensities (Z, Y, X). The intensity of a label is the sum of its voxels after subtraction of the
        median outside the mask. Without an image, the number of voxels is used.
    min_relative_intensity
        Drop labels with less than this fraction of the median label intensity. Polar bodies and debris
        contain less DNA than a nucleus; a condensed nucleus contains as much despite its small size. Labels
        recovered at the border do not enter the median and are not dropped. A border component whose labels
        are all dropped counts as unmarked.

    Returns
    -------
    Instances
        Labels as uint16 (uint32 above 65,535), with the labels recovered at the border.

    Raises
    ------
    InputError
        If mask, markers, depth and image differ in shape.
    """
    nuclear: NDArray[np.bool_] = np.asarray(mask != 0)
    for name, other in (("markers", markers), ("a depth", depth), ("an image", image)):
        if other is not None and other.shape != nuclear.shape:
            raise InputError(
                f"expected {name} of the mask's shape {nuclear.shape}, got {other.shape}: "
                "resample both to one grid"
            )
    components, n_components = ndi.label(nuclear, output=np.int32)
    marked = markers is not None and bool(markers.any())
    if markers is not None and marked:
        labels = _divide(components, n_components, markers, spacing, depth)
    else:
        labels = components
    kept = _bright(labels, nuclear, image, min_relative_intensity)
    n_kept = int(kept.sum())
    unmarked = np.zeros(0, np.int64)
    if recover_border and marked:
        unmarked = np.setdiff1d(_at_border(components), components[kept[labels]])
    last = n_kept + len(unmarked)
    kind = np.dtype(np.uint16 if last <= np.iinfo(np.uint16).max else np.uint32)
    numbers = np.where(kept, np.cumsum(kept), 0)
    compact: Labels = numbers.astype(kind)[labels]
    if len(unmarked):
        number = np.zeros(n_components + 1, kind)
        number[unmarked] = np.arange(n_kept + 1, last + 1)
        compact += number[components]  # these components contain no kept label
    return Instances(compact, np.arange(n_kept + 1, last + 1))


def _divide(
    components: NDArray[np.int32],
    n_components: int,
    markers: NDArray[np.integer],
    spacing: Spacing,
    depth: NDArray[np.floating] | None,
) -> NDArray[np.int32]:
    """Split components by watershed; a component with a single marker is not split.

    A component's box with a margin of one voxel contains the background nearest to each of its voxels, so
    distances inside the box are exact.
    """
    places = np.flatnonzero((markers > 0) & (components > 0))
    pairs = np.unique(np.stack([components.ravel()[places], markers.ravel()[places]]), axis=1)
    held = np.bincount(pairs[0])
    only = np.zeros(n_components + 1, np.int32)
    only[pairs[0]] = pairs[1]  # with several markers, the watershed overwrites this
    labels: NDArray[np.int32] = only[components]
    boxes = ndi.find_objects(components)
    for number in np.flatnonzero(held > 1):
        box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in boxes[number - 1])
        own = components[box] == number
        if depth is None:
            height = ndi.distance_transform_edt(components[box] > 0, sampling=spacing)
        else:
            height = depth[box]
        labels[box][own] = watershed(-height, markers[box], mask=own)[own]
    return labels


def _bright(
    labels: NDArray[np.int32],
    nuclear: NDArray[np.bool_],
    image: NDArray[np.generic] | None,
    share: float,
) -> NDArray[np.bool_]:
    """Return a boolean per label: at least `share` of the median intensity."""
    own = labels[nuclear]
    volumes = np.bincount(own, minlength=1)
    volumes[0] = 0
    kept = volumes > 0
    if not (share and kept.any()):
        return kept
    light: NDArray[np.floating] = volumes.astype(np.float64)
    if image is not None:
        outside = image[~nuclear].astype(np.float32)
        background = float(np.median(outside)) if outside.size else 0.0
        light = np.bincount(own, image[nuclear]) - volumes * background
    kept &= light >= share * np.median(light[kept])
    return kept


def _at_border(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    faces = [np.unique(np.take(labels, i, axis)) for axis in range(3) for i in (0, -1)]
    return np.setdiff1d(np.concatenate(faces), [0])
