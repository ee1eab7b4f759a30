"""Choose the thresholds of NSN and NDN: python -m benchmarks.thresholds.

NDN's threshold and smallest marker are chosen by the F of the markers' centres, then NSN's threshold by SEG,
then the smallest relative intensity by the F of the labels' centres. No training and no other benchmark draws
these volumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import RADIUS_UM, UNSEEN
from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.instances.watershed import instances_from_masks
from qcanet_monai.core.metrics.detection import centroids_um, detection_scores
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import seg
from qcanet_monai.io import Volume
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.segmentation.segmenter import Segmenter
from qcanet_monai.simulator.series import Frame, simulate_frame
from qcanet_monai.simulator.settings import shipped

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SMALLEST = (1, 3, 6, 10, 16, 25)
SHARES = (0.0, 0.05, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25)
_SEED = (UNSEEN, 2)


class Seen(NamedTuple):
    """Simulated volume with both networks' probabilities (Z, Y, X)."""

    frame: Frame
    region: NDArray[np.float16]
    centre: NDArray[np.float16]


def look(segmenter: Segmenter, volumes: int, tissue: float) -> list[Seen]:
    """Simulate volumes and run both networks; skip volumes without nuclei."""
    settings = shipped().with_tissue(tissue)
    seen = []
    for index in range(volumes):
        frame = simulate_frame((*_SEED, index), settings=settings)
        if frame.numbers:
            volume = Volume(frame.image, frame.spacing, Path(f"simulated-{index}"))
            region, centre = (one[0] for one in segmenter.predict(segmenter.preprocess(volume), volume))
            seen.append(Seen(frame, region.astype(np.float16), centre.astype(np.float16)))
    return seen


def markers(one: Seen, threshold: float, smallest: int) -> NDArray[np.integer]:
    """Label the components (Z, Y, X) of NDN's mask."""
    return markers_from_mask(one.centre >= threshold, min_size=smallest)


def detection_f(one: Seen, labels: NDArray[np.integer]) -> float:
    """Compute F of the labels' centres against those of the true nuclei."""
    centres = (centroids_um(of, spacing=one.frame.spacing) for of in (one.frame.instances, labels))
    return detection_scores(*centres, radius_um=RADIUS_UM).f


def watershed(
    one: Seen, threshold: float, centre: tuple[float, int], share: float = 0.0
) -> NDArray[np.integer]:
    """Segment with NSN's threshold, NDN's (threshold, smallest marker) and a share."""
    frame, mask = one.frame, one.region >= threshold
    found = markers(one, *centre)
    return instances_from_masks(
        mask, found, spacing=frame.spacing, image=frame.image, min_relative_intensity=share
    ).labels


def mean(values: Iterable[float]) -> float:
    """Average over the volumes where the metric is defined."""
    return float(np.nanmean([*values]))


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=60)
    for model in ("--nsn", "--ndn"):
        parser.add_argument(model, default=None, metavar="REF", help="Network, as in qcanet segment.")
    parser.add_argument("--tissue", type=float, default=0.28, help="Fraction of tissues among the volumes.")
    options = parser.parse_args()
    seen = look(load_segmenter(nsn=options.nsn, ndn=options.ndn), options.volumes, options.tissue)
    centres = {
        pair: mean(detection_f(one, markers(one, *pair)) for one in seen)
        for pair in product(THRESHOLDS, SMALLEST)
    }
    print("| NDN threshold | " + " | ".join(f"smallest {n}" for n in SMALLEST) + " |")
    print("|---|" + "---:|" * len(SMALLEST))
    for threshold in THRESHOLDS:
        row = " | ".join(f"{centres[threshold, n]:.3f}" for n in SMALLEST)
        print(f"| {threshold} | {row} |")
    best = max(centres, key=lambda pair: centres[pair])
    print(f"\nbest F {centres[best]:.3f}: threshold {best[0]}, smallest {best[1]}\n")
    print("| NSN threshold | SEG |\n|---|---:|")
    segs = {
        threshold: mean(
            seg(overlap_table(one.frame.instances, watershed(one, threshold, best))) for one in seen
        )
        for threshold in THRESHOLDS
    }
    for threshold, value in segs.items():
        print(f"| {threshold} | {value:.3f} |")
    region = max(segs, key=lambda threshold: segs[threshold])
    print("\n| min_relative_intensity | F |\n|---|---:|")
    for share in SHARES:
        f = mean(detection_f(one, watershed(one, region, best, share)) for one in seen)
        print(f"| {share} | {f:.3f} |")


if __name__ == "__main__":
    main()
