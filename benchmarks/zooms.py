"""Segment volumes on finer and coarser voxels: python -m benchmarks.zooms.

Every volume is cut to its nuclei and resampled (linearly; coarser ones smoothed). Prints per zoom how often
the number of nuclei is that of the plain volume, and the median IoU with its labels, at its size.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.core.resample import resample, resample_labels
from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.io import Volume, read_labels, read_volume
from qcanet_monai.io.names import list_images
from qcanet_monai.segmentation.load import load_segmenter

ZOOMS = (0.5, 0.67, 0.8, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
EMBRYOS, TIMEPOINTS, MARGIN = 10, 6, 6


def cut(image: Path) -> Volume:
    """Read a volume around its nuclei."""
    volume = read_volume(image)
    truth = image.parents[3] / "GroundTruth/train/GroundTruth_QCANet" / image.name
    inside = ndi.find_objects((read_labels(truth).array > 0).astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - MARGIN), s.stop + MARGIN) for s in inside)
    return Volume(volume.array[box], volume.spacing, image)


def zoomed(volume: Volume, zoom: float) -> Volume:
    """Resample a volume to voxels `zoom` times finer."""
    shape = tuple(max(1, round(n * zoom)) for n in volume.array.shape)
    array: NDArray[np.float32] = resample(volume.array, shape)  # type: ignore[arg-type]
    spacing = tuple(s * n / m for s, n, m in zip(volume.spacing, volume.array.shape, shape, strict=True))
    return Volume(array, spacing, volume.source)  # type: ignore[arg-type]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=EMBRYOS * TIMEPOINTS)
    parser.add_argument("--zooms", type=float, nargs="+", default=ZOOMS)
    parser.add_argument("--seed", type=int, default=40)
    arguments = parser.parse_args()
    segmenter = load_segmenter()
    same: dict[float, list[bool]] = {zoom: [] for zoom in arguments.zooms}
    ious: dict[float, list[float]] = {zoom: [] for zoom in arguments.zooms}
    with tempfile.TemporaryDirectory() as folder:
        simulate_dataset(
            folder, embryos=EMBRYOS, timepoints=TIMEPOINTS, generations=6, seed=arguments.seed, workers=2
        )
        images = list_images([Path(folder) / "Images/train/Images"])
        for image in images[:: max(1, len(images) // arguments.volumes)][: arguments.volumes]:
            plain = cut(image)
            labels = segmenter(plain).labels
            for zoom in arguments.zooms:
                other = zoomed(plain, zoom)
                found = segmenter(other).labels
                same[zoom].append(int(found.max()) == int(labels.max()))
                one, two = labels > 0, resample_labels(found, labels.shape) > 0
                ious[zoom].append(np.count_nonzero(one & two) / max(1, np.count_nonzero(one | two)))
                if not same[zoom][-1]:
                    counts = f"{int(found.max())} in place of {int(labels.max())} nuclei"
                    print(f"{image.stem}, zoom {zoom}: {counts}, IoU {ious[zoom][-1]:.2f}", flush=True)
    print("\n| voxels finer by | same number of nuclei | median IoU |\n| ---: | ---: | ---: |")
    for zoom in arguments.zooms:
        print(f"| {zoom:g} | {np.mean(same[zoom]):.0%} | {np.median(ious[zoom]):.3f} |")
    whole = (np.concatenate([*values.values()]) for values in (same, ious))
    print(f"| all | {np.mean(next(whole)):.1%} | {np.median(next(whole)):.3f} |")


if __name__ == "__main__":
    main()
