"""Baseline without learning: Otsu's threshold and a distance watershed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu

from qcanet_monai.core.instances.watershed import Instances, instances_from_masks
from qcanet_monai.core.resample import Spacing

# chosen for mouse nuclei of 7 to 20 µm, before any evaluation
_BLUR_UM = 1.0
_APART_UM = 4.0  # minimum distance of two centres
_SMALLEST_UM3 = 30.0  # a ball of diameter 4 µm


def otsu_watershed(image: NDArray[np.generic], *, spacing: Spacing) -> Instances:
    """Segment nuclei by intensity and shape, without a network.

    The image is blurred by a Gaussian of 1 µm and thresholded (Otsu 1979). Components below 30 µm³ are
    dropped. Markers are peaks of the distance to background, blurred by the same Gaussian and at least 4 µm
    apart. A watershed on the distance splits the components.

    Parameters
    ----------
    image
        Intensities (Z, Y, X), not constant.
    spacing
        Voxel size (z, y, x) in µm.
    """
    sigma = [_BLUR_UM / step for step in spacing]
    smooth = ndi.gaussian_filter(image.astype(np.float32), sigma)
    mask = smooth > threshold_otsu(smooth)
    parts, _ = ndi.label(mask)
    large = np.bincount(parts.ravel()) * float(np.prod(spacing)) >= _SMALLEST_UM3
    large[0] = False
    mask = large[parts]
    distance = ndi.gaussian_filter(ndi.distance_transform_edt(mask, sampling=spacing), sigma)
    radius = [int(np.ceil(_APART_UM / step)) for step in spacing]
    grids = np.ogrid[tuple(slice(-r, r + 1) for r in radius)]
    ball = sum((grid * step) ** 2 for grid, step in zip(grids, spacing, strict=True)) <= _APART_UM**2
    peaks = mask & (distance == ndi.maximum_filter(distance, footprint=ball))
    markers, _ = ndi.label(peaks, np.ones((3, 3, 3)))
    return instances_from_masks(mask, markers, spacing=spacing)
