"""Compare 3DCellSeg's loss variants: python -m benchmarks.cells --out DIR.

The ablation of table 4 of Wang et al. (2022) on simulated tissue: four trainings with equal data and steps,
scored on tissues from seeds that no training uses. Then TASCAN against DBSCAN with 3DCellSeg's loss.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.trained import dataset, table, trained, unseen, volume_of
from qcanet_monai.core.metrics.scores import evaluate
from qcanet_monai.segmentation.load import load_segmenter

LOSSES = {
    "3DCellSeg loss": "cellseg3d",
    "without weights": "cellseg3d_no_weights",
    "Dice with weights": "cellseg3d_weighted_dice",
    "Dice": "cellseg3d_dice",
}
METRICS = {
    "ARE": "adapted_rand_error",
    "VOI split": "voi_split_bits",
    "VOI merge": "voi_merge_bits",
    "mean JI": "cell_jaccard_mean",
    "mean DSC": "cell_dice_mean",
    "JI > 0.7": "cell_jaccard_share_above_0.7",
    "DSC > 0.7": "cell_dice_share_above_0.7",
    "JI > 0.5": "cell_jaccard_share_above_0.5",
    "DSC > 0.5": "cell_dice_share_above_0.5",
}


def scores(bundle: Path, volumes: int, seed: int, clustering: str = "tascan") -> list[float]:
    """Average the metrics over unseen tissues."""
    method = load_segmenter(bundle, clustering=clustering)
    rows = []
    for frame in unseen("cells", seed, volumes):
        found = evaluate(frame.instances, method(volume_of(frame)).labels, spacing=frame.spacing)
        rows.append([found[name] for name in METRICS.values()])
    return [float(value) for value in np.nanmean(rows, axis=0)]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder of the data and the trainings.")
    parser.add_argument("--tissues", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--volumes", type=int, default=24, help="Number of unseen tissues to score.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    data = dataset(options.out / "data", embryos=options.tissues, timepoints=1, seed=31, settings="cells")
    settings = {
        "dataset_dir": str(data),
        "cache_dir": str(options.out / "cache"),
        "epochs": options.epochs,
        "folds": 12,
        "seed": options.seed,
        "validation_volumes": 20,
    }
    rows = []
    for name, loss in LOSSES.items():
        bundle = trained("cellseg3d", options.out / loss, {**settings, "loss": loss})
        rows.append([name, *scores(bundle, options.volumes, options.seed)])
        print(table(["loss", *METRICS], rows), end="\n\n", flush=True)
    bundle = options.out / "cellseg3d"
    clustered = [[how, *scores(bundle, options.volumes, options.seed, how)] for how in ("tascan", "dbscan")]
    print(table(["clustering", *METRICS], clustered))


if __name__ == "__main__":
    main()
