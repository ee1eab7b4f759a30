"""Score true outlines with errors of sampling: python -m benchmarks.ceiling.

The volumes are those of `benchmarks.accuracy`. Their true outlines, at a known fraction of each nucleus's
light, are moved by half a voxel along z or x; or read and written as the networks do, by resampling to cubic
voxels and back; or blurred once more by the optics. Prints the mean IoU of nuclei by size and the mean SEG of
volumes by stage: what errors of this size cost.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from benchmarks.accuracy import STAGES, UNSEEN
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import seg
from qcanet_monai.core.resample import isotropic_shape, nuclear_diameter_um, resample
from qcanet_monai.core.targets.build import occupancy
from qcanet_monai.simulator.parameters import Optics
from qcanet_monai.simulator.series import Frame, simulate_frame
from qcanet_monai.simulator.settings import shipped

ACROSS = 18  # voxels across a nucleus on the grid of the networks
SIZES = (0, 100, 300, 1000, 3000, 10000, math.inf)  # voxels of a nucleus
VARIANTS = ("half a voxel along z", "half a voxel along x", "networks' grid", "blurred once more")


def masks(frame: Frame, optics: Optics) -> Iterator[NDArray[np.bool_]]:
    """Yield the foreground (Z, Y, X) of each of `VARIANTS`."""
    height = frame.height
    for shift in ((0.5, 0, 0), (0, 0, 0.5)):
        yield ndi.shift(height, shift, order=1, mode="nearest") > 0
    edge = max(min(frame.spacing), nuclear_diameter_um(frame.nuclei, spacing=frame.spacing) / ACROSS)
    grid = isotropic_shape(height.shape, spacing=frame.spacing, isotropic_spacing_um=edge)
    yield resample(occupancy(resample(height, grid)), height.shape) >= 0.5
    sigma = np.array([optics.axial_um, optics.lateral_um, optics.lateral_um]) / frame.spacing
    yield ndi.gaussian_filter((height > 0).astype(np.float32), sigma) >= 0.5


def found(mask: NDArray[np.bool_], frame: Frame) -> NDArray[np.uint16]:
    """Label a foreground (Z, Y, X) by the nearest true nucleus."""
    outside = frame.instances == 0
    nearest = ndi.distance_transform_edt(
        outside, sampling=frame.spacing, return_distances=False, return_indices=True
    )
    labels: NDArray[np.uint16] = np.where(mask, frame.instances[tuple(nearest)], 0).astype(np.uint16)
    return labels


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = shipped().with_tissue(0.0)
    sizes, ious, counts, segs = [], [], [], []
    for index in range(options.volumes):
        seed = (UNSEEN, options.seed, index)
        frame = simulate_frame(seed, settings=settings)
        if not frame.instances.any():
            continue
        tables = [
            overlap_table(frame.instances, found(mask, frame))
            for mask in masks(frame, settings.draw(seed).optics)
        ]
        nuclei = np.zeros((tables[0].n_ref, len(tables)))
        for column, table in enumerate(tables):
            np.maximum.at(nuclei[:, column], table.pairs.reference, table.pairs.iou)
        sizes.append(tables[0].reference_sizes)
        ious.append(nuclei)
        counts.append(tables[0].n_ref)
        segs.append([seg(table) for table in tables])
    size, iou, count, whole = np.concatenate(sizes), np.concatenate(ious), np.array(counts), np.array(segs)
    print(f"| voxels of a nucleus | nuclei | {' | '.join(VARIANTS)} |\n| --- | ---: |" + " ---: |" * 4)
    for low, high in pairwise(SIZES):
        chosen = (size >= low) & (size < high)
        cells = " | ".join(f"{value:.3f}" for value in iou[chosen].mean(0)) if chosen.any() else " | | |"
        print(f"| {low:g} to {high:g} | {chosen.sum()} | {cells} |")
    print(f"\n| nuclei | volumes | {' | '.join(VARIANTS)} |\n| --- | ---: |" + " ---: |" * 4)
    for name, (low, high) in STAGES.items():
        chosen = (count >= low) & (count <= high)
        cells = " | ".join(f"{value:.3f}" for value in whole[chosen].mean(0)) if chosen.any() else " | | |"
        print(f"| {name} | {chosen.sum()} | {cells} |")


if __name__ == "__main__":
    main()
