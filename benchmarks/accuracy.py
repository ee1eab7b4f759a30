"""Score segmentations by stage on simulations: python -m benchmarks.accuracy.

Volumes are single time points from the training's distributions and from seeds that no training uses. IoU,
SEG and MUCov are the paper's, per volume; F is of centres matched one to one within 3.28 µm. Means are over
the volumes where a metric is defined: MUCov is undefined if nothing was found.

The second table has the ratio of found to true volume of each image's nuclei, matched with an IoU of at least
0.5, and the metrics of NSN alone: its connected components.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcanet_monai.core.instances.instances import Instances, Labels
from qcanet_monai.core.instances.uncertainty import UNSURE
from qcanet_monai.core.metrics.detection import RADIUS_UM
from qcanet_monai.core.metrics.overlap import Overlap, mean_or_nan, overlap_table
from qcanet_monai.core.metrics.scores import centroids_um, detection_scores, iou, mucov, seg
from qcanet_monai.io import Volume, write_csv
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.segmentation.result import Segmentation
from qcanet_monai.simulator.series import simulate_frame
from qcanet_monai.simulator.settings import Simulation, Spacing, shipped

UNSEEN = 987654321  # begins every seed of the benchmarks, and no seed of a training
RIGHT = 0.5  # a nucleus is correct from this IoU with a true nucleus
TOLERANCE = 0.1  # of an image's volumes
# least and most nuclei in the ground truth; each sum follows its parts
STAGES = {"1": (1, 1), "2": (2, 2), "3-4": (3, 4), "5-8": (5, 8), "9-16": (9, 16), "up to 16": (1, 16)}
STAGES |= {"17-32": (17, 32), "33-60": (33, 60), "up to 60": (1, 60), "over 60": (61, sys.maxsize)}
METRICS = ("iou", "seg", "mucov", f"detection_f_{RADIUS_UM:g}um")
HEADER = ("nuclei", "volumes", "IoU", "SEG", "MUCov", f"F in {RADIUS_UM:g} µm", "found - true", "exact count")
ALONE = tuple(f"NSN alone: {name}" for name in HEADER[2:6])
SECOND = ("nuclei", "median volume ratio", f"within {1 - TOLERANCE:g} to {1 + TOLERANCE:g}", *ALONE)
Row = dict[str, Any]
Probability = NDArray[np.float32]


def score(reference: ArrayLike, prediction: ArrayLike, *, spacing: Spacing) -> Row:
    """Compute one volume's metrics, named as in `core.metrics.scores.evaluate`.

    Parameters
    ----------
    reference, prediction : array_like of int, shape (Z, Y, X)
        Label images of the same shape, 0 is background.
    spacing
        Voxel size (z, y, x) in µm.
    """
    overlap = overlap_table(reference, prediction)
    centres = (centroids_um(labels, spacing=spacing) for labels in (reference, prediction))
    values = (iou(overlap), seg(overlap), mucov(overlap), detection_scores(*centres, radius_um=RADIUS_UM).f)
    counts = {"n_ref": overlap.n_ref, "n_pred": overlap.n_pred}
    return {**counts, **dict(zip(METRICS, values, strict=True))}


class Alone:
    """Postprocessing that also keeps the connected components of NSN alone."""

    def __init__(self, to_instances: Callable[..., Instances]) -> None:
        self.to_instances = to_instances
        self.labels: Labels = np.zeros((0, 0, 0), np.uint16)

    def __call__(self, region: Probability, *centre: Probability, **options: Any) -> Instances:
        """Return the instances of both networks."""
        self.labels = self.to_instances(region, **options).labels
        return self.to_instances(region, *centre, **options)


def volume_ratio(overlap: Overlap) -> float:
    """Compute the ratio of found to true volume of matched nuclei; NaN without any."""
    pairs = overlap.pairs
    matched = pairs.iou >= RIGHT
    true = overlap.reference_sizes[pairs.reference[matched]].sum()
    return float(overlap.predicted_sizes[pairs.predicted[matched]].sum() / true) if true else math.nan


def measured(
    seed: int, index: int, settings: Simulation, segment: Callable[[Volume], Segmentation], alone: Alone
) -> Row:
    """Simulate one volume, score its segmentation and return a row of the table.

    `alone` holds the labels of NSN alone after each call of `segment`.
    """
    whole = (UNSEEN, seed, index)
    frame, recording = simulate_frame(whole, settings=settings), settings.draw(whole)
    found = segment(Volume(frame.image, frame.spacing, Path(f"simulated-{seed}-{index}")))
    overlap = overlap_table(frame.instances, found.labels)
    components = score(frame.instances, alone.labels, spacing=frame.spacing)
    return {
        "seed": seed,
        "index": index,
        **dict(zip(("spacing_z_um", "spacing_y_um", "spacing_x_um"), frame.spacing, strict=True)),
        "kind": recording.growth.kind,
        "camera": recording.camera.kind,
        "photons": recording.camera.photons,
        **score(frame.instances, found.labels, spacing=frame.spacing),
        "volume_ratio": volume_ratio(overlap),
        **{f"nsn_{name}": components[name] for name in METRICS},
        **trusted(overlap, found.table["confidence"] < UNSURE),
        **within(overlap, found.table["volume_sd_um3"] / np.prod(frame.spacing)),
    }


def within(overlap: Overlap, sd_voxels: NDArray[np.floating]) -> dict[str, int]:
    """Count matched nuclei, and those whose volume is within one and two errors.

    `sd_voxels` are the errors of the predicted nuclei in label order.
    """
    pairs = overlap.pairs
    true, found = (numbers[pairs.iou >= RIGHT] for numbers in (pairs.reference, pairs.predicted))
    away = np.abs(overlap.predicted_sizes[found] - overlap.reference_sizes[true])
    counts = {f"n_within_{n}_sd": int((away <= n * sd_voxels[found]).sum()) for n in (1, 2)}
    return {"n_matched": len(true), **counts}


def trusted(overlap: Overlap, unsure: NDArray[np.bool_]) -> dict[str, int]:
    """Count unsure nuclei, and correct nuclei among the unsure and the sure.

    `overlap` is that of ground truth and segmentation; `unsure` marks predicted nuclei in label order.
    """
    pairs = overlap.pairs
    right = np.zeros(overlap.n_pred, bool)
    right[pairs.predicted[pairs.iou >= RIGHT]] = True
    return {
        "n_unsure": int(unsure.sum()),
        "n_unsure_right": int((unsure & right).sum()),
        "n_sure_right": int((right & ~unsure).sum()),
    }


def means(rows: Sequence[Row]) -> list[float]:
    """Compute means of metrics, count errors and exact counts; NaN if undefined."""
    values = np.array([[row[name] for name in METRICS] for row in rows], float).reshape(-1, len(METRICS))
    errors = np.array([row["n_pred"] - row["n_ref"] for row in rows], float)
    defined = [mean_or_nan(column[~np.isnan(column)]) for column in values.T]
    return [*defined, mean_or_nan(errors), mean_or_nan(errors == 0)]


def table(rows: Sequence[Row]) -> str:
    """Format the means by stage as Markdown; volumes without nuclei are left out."""
    lines = [" | ".join(HEADER), " | ".join(["---", *["---:"] * (len(HEADER) - 1)])]
    formats = [*["{:.3f}"] * len(METRICS), "{:+.2f}", "{:.2f}"]
    for name, (low, high) in STAGES.items():
        chosen = [row for row in rows if low <= row["n_ref"] <= high]
        values = zip(formats, means(chosen), strict=True)
        cells = ["" if math.isnan(value) else text.format(value) for text, value in values]
        lines.append(" | ".join([name, str(len(chosen)), *cells]))
    empty = [row["n_pred"] for row in rows if not row["n_ref"]]
    left_out = f"Volumes without a nucleus in view, left out: {len(empty)}; nuclei found there: {sum(empty)}."
    return "\n".join([*(f"| {line} |" for line in lines), "", left_out])


def second_table(rows: Sequence[Row]) -> str:
    """Format volumes, and the metrics of NSN alone, by stage as Markdown."""
    lines = [" | ".join(SECOND), " | ".join(["---", *["---:"] * (len(SECOND) - 1)])]
    for name, (low, high) in STAGES.items():
        chosen = [row for row in rows if low <= row["n_ref"] <= high]
        ratios = _defined(chosen, "volume_ratio")
        near = np.abs(ratios - 1) <= TOLERANCE
        values = [float(np.median(ratios)) if ratios.size else math.nan, mean_or_nan(near.astype(float))]
        values += [mean_or_nan(_defined(chosen, f"nsn_{metric}")) for metric in METRICS]
        lines.append(" | ".join([name, *("" if math.isnan(value) else f"{value:.3f}" for value in values)]))
    return "\n".join(f"| {line} |" for line in lines)


def _defined(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    values = np.array([row[name] for row in rows], float)
    return values[~np.isnan(values)]


def trust(rows: Sequence[Row]) -> str:
    """State the shares of correct nuclei below and above the confidence threshold."""
    found, unsure, unsure_right, sure_right = (
        sum(row[name] for row in rows) for name in ("n_pred", "n_unsure", "n_unsure_right", "n_sure_right")
    )
    sure = found - unsure
    return (
        f"Of {unsure} nuclei of a confidence below {UNSURE:g}, {unsure_right / max(unsure, 1):.0%} overlap a "
        f"true one by IoU {RIGHT:g} or more; of {sure} others {sure_right / max(sure, 1):.0%}."
    )


def errors(rows: Sequence[Row]) -> str:
    """State the shares of matched nuclei whose volume is within its error."""
    matched, one, two = (
        sum(row[name] for row in rows) for name in ("n_matched", "n_within_1_sd", "n_within_2_sd")
    )
    return (
        f"The volume is within a volume_sd_um3 of the true one for {one / max(matched, 1):.0%} of {matched} "
        f"matched nuclei, within two for {two / max(matched, 1):.0%}."
    )


def main() -> None:
    """Print the table and the shares of correct nuclei."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--volumes", type=int, default=200)
    for model in ("--nsn", "--ndn"):
        parser.add_argument(model, default=None, metavar="REF", help="Network, as in qcanet segment.")
    parser.add_argument("--tissue", type=float, default=0.0, help="Fraction of tissues among the volumes.")
    parser.add_argument("--flips", action="store_true", help="Average over mirror images.")
    parser.add_argument("--finest", action="store_true", help="Always use the finest spacing.")
    parser.add_argument("--dim", action="store_true", help="Keep labels of low intensity.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Write one CSV row per volume to this file.")
    options = parser.parse_args()
    settings = shipped().with_tissue(options.tissue)
    segmenter = load_segmenter(
        nsn=options.nsn,
        ndn=options.ndn,
        test_time_augmentation=options.flips or None,
        min_relative_intensity=0.0 if options.dim else None,
    )
    if options.finest:
        for predictor in segmenter.predictors.values():
            predictor.max_diameter_voxels = None
    segmenter.to_instances = Alone(segmenter.to_instances)
    rows = []
    for index in range(options.volumes):
        rows.append(measured(options.seed, index, settings, segmenter, segmenter.to_instances))
        if len(rows) % 20 == 0:
            print(f"{len(rows)} of {options.volumes}", file=sys.stderr, flush=True)
    print(table(rows), second_table(rows), trust(rows), errors(rows), sep="\n\n")
    if options.out:
        write_csv(options.out, rows)


if __name__ == "__main__":
    main()
