"""Procedure of the original paper and script: baseline and oracle.

Tokuoka et al. 2020: min-max per volume, z interpolated to cubic voxels, fp32 patches of 96 voxels with a
stride of 48 whose middle is kept. Both masks are resized to the image's grid, then a watershed divides the
whole volume. Metrics and criteria loop over whole volumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label, marching_cubes, mesh_surface_area
from skimage.segmentation import relabel_sequential, watershed
from torch import nn

Spacing = tuple[float, float, float]
Labels = NDArray[np.integer]
PATCH, STRIDE = 96, 48
_MARGIN = (PATCH - STRIDE) // 2


def isotropic(image: NDArray[np.generic], spacing: Spacing) -> NDArray[np.float32]:
    """Scale an image (Z, Y, X) to 0 to 1 and its z to the lateral voxel size."""
    values = image.astype(np.float32)
    values = (values - values.min()) / max(float(values.max() - values.min()), 1e-9)
    return _resized(values, round(image.shape[0] * spacing[0] / spacing[2]))


def patches(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """List the patches in the padded volume: 27 for 112 x 120 x 122 voxels."""
    starts = [range(0, -(-n // STRIDE) * STRIDE, STRIDE) for n in shape]
    return [tuple(slice(s, s + PATCH) for s in corner) for corner in product(*starts)]


def padded(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pad an image (Z, Y, X) with mirrored margins, so that patches cover it."""
    sides = [(_MARGIN, -(-n // STRIDE) * STRIDE - n + _MARGIN) for n in image.shape]
    return np.pad(image, sides, mode="reflect")


@torch.inference_mode()
def see(network: nn.Module, patch: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Predict the foreground of a patch (Z, Y, X) by the larger of two logits."""
    logits = network(torch.from_numpy(np.ascontiguousarray(patch))[None, None])
    return np.asarray(logits[0].argmax(0).numpy() == 1)


def mask(network: nn.Module, image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Predict the foreground (Z, Y, X) of an isotropic image, patch by patch."""
    volume = padded(image)
    found = np.zeros(volume.shape, bool)
    middle = (slice(_MARGIN, _MARGIN + STRIDE),) * 3
    for box in patches(image.shape):
        inner = tuple(slice(s.start + _MARGIN, s.start + _MARGIN + STRIDE) for s in box)
        found[inner] = see(network, volume[box])[middle]
    return found[tuple(slice(_MARGIN, _MARGIN + n) for n in image.shape)]


def native(seen: NDArray[np.bool_], depth: int) -> NDArray[np.bool_]:
    """Resize a mask (Z, Y, X) to `depth` slices."""
    return _resized(seen.astype(np.float32), depth) >= 0.5


def instances(region: NDArray[np.bool_], centres: NDArray[np.bool_], spacing: Spacing) -> Labels:
    """Divide a region by a watershed from the components of the centres."""
    markers = label(centres, connectivity=1)
    if not markers.any():
        return np.asarray(label(region, connectivity=1))
    distance = ndi.distance_transform_edt(region, sampling=spacing)
    return np.asarray(relabel_sequential(watershed(-distance, markers, mask=region))[0])


def segment(nsn: nn.Module, ndn: nn.Module, image: NDArray[np.generic], spacing: Spacing) -> Labels:
    """Segment grey values (Z, Y, X) into labels."""
    cubic = isotropic(image, spacing)
    region, centres = (native(mask(network, cubic), len(image)) for network in (nsn, ndn))
    return instances(region, centres, spacing)


def scores(reference: Labels, prediction: Labels, rows: range | None = None) -> dict[str, float]:
    """Compute IoU, SEG and MUCov in loops over label pairs (reference in `rows`)."""
    fore = (reference > 0, prediction > 0)
    found = {"iou": float((fore[0] & fore[1]).sum() / (fore[0] | fore[1]).sum())}
    n_ref, n_pred = int(reference.max()), int(prediction.max())
    seg, best = [], np.zeros(n_pred + 1)
    for r in rows or range(1, n_ref + 1):
        one, own = reference == r, 0.0
        for p in range(1, n_pred + 1):
            other = prediction == p
            common = int((one & other).sum())
            if 2 * common > one.sum():
                own = common / int((one | other).sum())
                best[p] = max(best[p], own)
        seg.append(own)
    return found | {"seg": float(np.mean(seg)), "mucov": float(best[1:].mean())}


def criteria(labels: Labels, spacing: Spacing, rows: range | None = None) -> Iterator[tuple[float, ...]]:
    """Yield volume (µm³), contact and mesh surface (µm²), centroid (µm) per nucleus."""
    voxel = float(np.prod(spacing))
    for number in rows or range(1, int(labels.max()) + 1):
        nucleus = labels == number
        contact = nucleus & ndi.binary_dilation(labels == 0)
        smooth = ndi.gaussian_filter(np.pad(nucleus, 3).astype(np.float32), 0.7)
        vertices, faces, *_ = marching_cubes(smooth, 0.5, spacing=spacing)
        centre = (float(axis.mean()) * step for axis, step in zip(np.nonzero(nucleus), spacing, strict=True))
        area = mesh_surface_area(vertices, faces)
        yield (int(nucleus.sum()) * voxel, int(contact.sum()) * voxel ** (2 / 3), float(area), *centre)


def _resized(values: NDArray[np.float32], depth: int) -> NDArray[np.float32]:
    factors = (depth / len(values), 1, 1)
    return np.asarray(ndi.zoom(values, factors, order=1, mode="nearest", grid_mode=True), np.float32)
