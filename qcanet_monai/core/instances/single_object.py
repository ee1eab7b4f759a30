"""Segmentation of a single object per image, such as an oocyte's spindle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.core.instances.instances import Instances
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError


def largest_object(
    outputs: NDArray[np.float32],
    *,
    image: NDArray[np.generic] | None = None,  # noqa: ARG001
    spacing: Spacing,  # noqa: ARG001
    threshold: float = 0.5,
) -> Instances:
    """Label the largest 6-connected component of a mask and fill its holes.

    Equally large components are ranked in raster order. A hole is background that is not 6-connected to the
    volume's border. An empty mask gives no label.

    Parameters
    ----------
    outputs
        Object probability (1, Z, Y, X).
    image, spacing
        Unused; all postprocessing functions accept them.
    threshold
        Minimum probability of mask voxels.

    Raises
    ------
    InputError
        If the outputs are not one channel of a volume.
    """
    if outputs.ndim != 4 or len(outputs) != 1:
        raise InputError(
            f"expected one probability, (1, Z, Y, X), got {outputs.shape}: use a network with one output"
        )
    probability = outputs[0].astype(np.float32, copy=False)
    components, n_components = ndi.label(probability >= threshold, output=np.int32)
    labels = np.zeros(probability.shape, np.uint16)
    if n_components:
        largest = 1 + int(np.bincount(components.ravel())[1:].argmax())
        box = ndi.find_objects(components)[largest - 1]
        labels[box] = ndi.binary_fill_holes(components[box] == largest)
    return Instances(labels, foreground=probability)
