"""Measure the light at outlines: python -m benchmarks.outlines [FOLDER].

For simulated volumes of `benchmarks.accuracy`, and for the labelled images of `benchmarks.examples` in
FOLDER, prints the light at the true outlines, from 0 around a nucleus to 1 in its middle. Then prints how the
ratio of found to true volume of the simulated images changes if nuclei end at one fraction of light in all.
Labels may lie beside the light: the last columns are the shift along z, in slices, at which they are
brightest, and the SEG of labels moved so against themselves.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from benchmarks.accuracy import TOLERANCE, UNSEEN, volume_ratio
from benchmarks.examples import examples
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import seg
from qcanet_monai.core.outline import light_at
from qcanet_monai.core.resample import Spacing
from qcanet_monai.io import Volume
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.simulator.series import simulate_frame
from qcanet_monai.simulator.settings import shipped

SHIFTS = (-2, -1, 0, 1, 2)  # slices
FRACTIONS = (None, 0.3, 0.33, 0.36, 0.4)


def at_outline(labels: NDArray[np.integer[Any]], image: NDArray[np.generic], spacing: Spacing) -> float:
    """Return the mean light of the voxels on either side of the outlines of labels."""
    inside = labels > 0
    sides = (inside & ~ndi.binary_erosion(inside, border_value=1), ndi.binary_dilation(inside) & ~inside)
    classes = np.where(sides[0], 0, np.where(sides[1], 1, -1))
    return float(np.mean(light_at(classes, 2, labels, image, spacing=spacing)))


def beside(labels: NDArray[np.integer[Any]], image: NDArray[np.generic]) -> tuple[int, float]:
    """Return the shift along z at which labels are brightest, and its SEG."""
    moved = {shift: np.roll(labels, shift, 0) for shift in SHIFTS}
    best = max(moved, key=lambda shift: float(image[moved[shift] > 0].mean()))
    return best, seg(overlap_table(labels, moved[best]))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER")
    parser.add_argument("--volumes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=9)
    options = parser.parse_args()
    settings, segmenter = shipped().with_tissue(0.0), load_segmenter()
    levels, ratios = [], []
    for index in range(options.volumes):
        frame = simulate_frame((UNSEEN, options.seed, index), settings=settings)
        if not frame.instances.any():
            continue
        levels.append(at_outline(frame.instances, frame.image, frame.spacing))
        volume = Volume(frame.image, frame.spacing, Path(str(index)))
        outputs = segmenter.predict(segmenter.preprocess(volume), volume)
        found = []
        for fraction in FRACTIONS:
            split = partial(segmenter.to_instances, outline=fraction)
            labels = split(*outputs, image=frame.image, spacing=frame.spacing).labels
            found.append(volume_ratio(overlap_table(frame.instances, labels)))
        ratios.append(found)
    print("| true outlines | light | brightest at | SEG there |\n| --- | ---: | ---: | ---: |")
    print(f"| simulated, median and SD | {np.median(levels):.2f}, {np.std(levels):.2f} | | |")
    for example in examples(options.folder) if options.folder else ():
        if example.truth is not None:
            level = at_outline(example.truth, example.volume.array, example.volume.spacing)
            shift, score = beside(example.truth, example.volume.array)
            print(f"| {example.name} | {level:.2f} | {shift:+d} | {score:.3f} |")
    print("\n| nuclei end at | median volume ratio | within the tolerance |\n| --- | ---: | ---: |")
    for fraction, column in zip(FRACTIONS, np.array(ratios).T, strict=True):
        known = column[~np.isnan(column)]
        near = np.mean(np.abs(known - 1) <= TOLERANCE)
        print(f"| {fraction or 'the outline of NSN'} | {np.median(known):.3f} | {near:.2f} |")


if __name__ == "__main__":
    main()
