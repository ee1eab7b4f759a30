"""Score and draw real images that no training saw: python -m benchmarks.examples.

FOLDER holds the public images that docs/accuracy.md names, one folder each; absent ones are left out. Every
image is segmented with the same settings. Prints IoU, SEG, and found to true volume of matched nuclei where
labels exist, and recall and precision of outlines within planes (IoU of at least 0.5, 60 pixels or more)
where only these exist. Draws each image into OUT.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops

from benchmarks.accuracy import volume_ratio
from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.instances.watershed import instances_from_masks
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import iou, seg
from qcanet_monai.core.resample import Spacing
from qcanet_monai.io import Volume, read_labels, read_volume
from qcanet_monai.plot.overlay import write_overlay
from qcanet_monai.segmentation.load import load_segmenter

Labels = NDArray[np.integer[Any]]
BBBC050: Spacing = (1.75, 0.8, 0.8)
# the files state the width of pixels from before their number was halved
BLASTOCYST: Spacing = (2.01, 0.49, 0.49)
SMALLEST = 60  # pixels of an outline within a plane
HEADER = ("image", "true", "found", "IoU", "SEG", "volume", "recall in planes", "precision in planes")


class Example(NamedTuple):
    """Image with its true labels, or with the outlines of nuclei in each plane."""

    name: str
    volume: Volume
    truth: Labels | None = None
    planes: Labels | None = None


def examples(folder: Path) -> Iterator[Example]:
    """Yield the examples that a folder holds."""
    embryo = folder / "qcanet_16cell"
    if embryo.is_dir():
        mask, centres = (
            read_labels(embryo / name, spacing=BBBC050, instances=False).array
            for name in ("nsn.tif", "ndn.tif")
        )
        truth = instances_from_masks(mask, markers_from_mask(centres), spacing=BBBC050).labels
        yield Example("16-cell", read_volume(embryo / "raw.tif", spacing=BBBC050), truth)
    for image in sorted((folder / "mouse_dim_8cell/images").glob("*.tif")):
        truth = read_labels(folder / "mouse_dim_8cell/labels" / image.name).array
        yield Example(f"dim 8-cell {image.stem[-1]}", read_volume(image), truth)
    ovule = folder / "ovule_nuclei_1135"
    if ovule.is_dir():
        yield Example("ovule", read_volume(ovule / "raw.tif"), read_labels(ovule / "label.tif").array)
    for image in sorted((folder / "blastocysts_dapi").glob("*.tif")):
        planes = read_labels(image.parent / "planes" / image.name, spacing=BLASTOCYST).array
        name = f"blastocyst {image.stem.partition('_')[0]}"
        yield Example(name, read_volume(image, spacing=BLASTOCYST), planes=planes)
    if (folder / "neubias_nuclei").is_dir():
        yield Example("NEUBIAS", read_volume(folder / "neubias_nuclei/raw.tif"))
    for image in sorted((folder / "drosophila_series").glob("*.tif")):
        yield Example(f"Drosophila {image.stem[-1]}", read_volume(image))


def pieces(plane: Labels) -> Labels:
    """Number the connected pieces (Y, X) of labels, of at least `SMALLEST` pixels."""
    parts = label(plane, connectivity=2)
    large = [part.label for part in regionprops(parts) if part.area >= SMALLEST]
    number = np.zeros(int(parts.max()) + 1, np.int64)
    number[large] = np.arange(1, len(large) + 1)
    found: Labels = number[parts]
    return found


def in_planes(labels: Labels, planes: Labels) -> tuple[float, float]:
    """Compute recall and precision of outlines (Z, Y, X) within planes."""
    hits = outlines = found = 0
    for ours, theirs in zip(labels, planes, strict=True):
        overlap = overlap_table(pieces(theirs), pieces(ours))
        hits += len(np.unique(overlap.pairs.reference[overlap.pairs.iou >= 0.5]))
        outlines, found = outlines + overlap.n_ref, found + overlap.n_pred
    return hits / max(outlines, 1), hits / max(found, 1)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, help="Folder of the pictures.")
    for model in ("--nsn", "--ndn"):
        parser.add_argument(model, default=None, metavar="REF", help="Network, as in qcanet segment.")
    parser.add_argument("--outline", default=None, help="As in qcanet segment.")
    options = parser.parse_args()
    segmenter = load_segmenter(nsn=options.nsn, ndn=options.ndn, outline=options.outline)
    print(f"| {' | '.join(HEADER)} |\n| --- |{' ---: |' * (len(HEADER) - 1)}", flush=True)
    for example in examples(options.folder):
        labels = segmenter(example.volume).labels
        scores = [math.nan] * 5
        true = ""
        if example.truth is not None:
            overlap = overlap_table(example.truth, labels)
            true, scores[:3] = str(overlap.n_ref), [iou(overlap), seg(overlap), volume_ratio(overlap)]
        if example.planes is not None:
            scores[3:] = in_planes(labels, example.planes)
        cells = [example.name, true, str(labels.max()), *("" if np.isnan(s) else f"{s:.3f}" for s in scores)]
        print(f"| {' | '.join(cells)} |", flush=True)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            picture = options.out / f"{example.name.replace(' ', '-')}.png"
            write_overlay(
                picture, example.volume.array, labels, spacing=example.volume.spacing, title=example.name
            )


if __name__ == "__main__":
    main()
