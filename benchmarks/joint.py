"""Joint detection and segmentation against two networks, and what its uncertainty tells.

    python -m benchmarks.joint --out DIR

Trains both on the same simulated embryos with as many steps, and matches the centres found in embryos from
seeds that no training uses within 3.28 µm. Then the dropout passes of Ram et al. (2018), section 3.3: how the
error of a centre, the distance to the nearest true one, goes with its radius, and what is gained where the
least sure tenth of all centres is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import pearsonr, spearmanr

from benchmarks.trained import dataset, table, trained, unseen, volume_of
from qcanet_monai.core.detection import centroids_um, detection_scores
from qcanet_monai.core.uncertainty import confidence_radius_um, most_uncertain
from qcanet_monai.workflows.single import BundleSegmenter

RADIUS_UM = 3.28
DROPPED = 0.1
Points = NDArray[np.float64]


class Seen(NamedTuple):
    """Centres (n, 3) of one volume in µm, true and found, and the radius of each found one."""

    true: Points
    found: Points
    radius_um: NDArray[np.float64]


def look(bundle: Path, volumes: int, seed: int, passes: int) -> list[Seen]:
    """Find the centres of unseen embryos, with dropout passes if there are any."""
    method = BundleSegmenter(bundle, passes=passes)
    seen = []
    for frame in unseen(None, seed, volumes, tissue=0.2):
        volume = volume_of(frame)
        prepared = method.prepare(volume)
        found = method.label(method.look(prepared, volume), volume).centres_um
        samples = [method.label(one, volume).centres_um for one in method.looks(prepared, volume)]
        radius = confidence_radius_um(found, samples) if samples else np.zeros(len(found))
        seen.append(Seen(centroids_um(frame.instances, spacing=frame.spacing), found, radius))
        if len(seen) % 10 == 0:
            print(f"{bundle.name}: {len(seen)} of {volumes} volumes", file=sys.stderr, flush=True)
    return seen


def detection(seen: Sequence[Seen], kept: Sequence[NDArray[np.bool_]] | None = None) -> list[float]:
    """Precision, recall and F over the centres of all volumes."""
    matched = true = found = 0
    for index, one in enumerate(seen):
        points = one.found if kept is None else one.found[kept[index]]
        matched += detection_scores(one.true, points, radius_um=RADIUS_UM).n_matched
        true, found = true + len(one.true), found + len(points)
    return [matched / max(found, 1), matched / max(true, 1), 2 * matched / max(true + found, 1)]


def without_the_least_sure(seen: Sequence[Seen]) -> list[float]:
    """`detection` where the tenth of all centres with the largest radius is left out."""
    dropped = most_uncertain(np.concatenate([one.radius_um for one in seen]), DROPPED)
    ends = np.cumsum([len(one.found) for one in seen])[:-1]
    return detection(seen, [~part for part in np.split(dropped, ends)])


def correlation(seen: Sequence[Seen]) -> str:
    """How the error of a centre goes with its radius."""
    error = np.concatenate([cKDTree(one.true).query(one.found)[0] for one in seen])
    radius = np.concatenate([one.radius_um for one in seen])
    known = np.isfinite(radius)
    pearson, spearman = pearsonr(error[known], radius[known]), spearmanr(error, radius)
    return (
        f"Error and radius of {len(error)} centres: Pearson's r {pearson.statistic:.3f} "
        f"(p {pearson.pvalue:.1e}, {known.sum()} of finite radius), Spearman's {spearman.statistic:.3f} "
        f"(p {spearman.pvalue:.1e})."
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the data and the trainings")
    parser.add_argument("--embryos", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--volumes", type=int, default=60, help="unseen volumes to score on")
    parser.add_argument("--passes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    data = dataset(options.out / "data", embryos=options.embryos, timepoints=3, seed=32, tissue=0.2)
    settings = {
        "dataset_dir": str(data),
        "epochs": options.epochs,
        "folds": 15,
        "seed": options.seed,
        "val_interval": 2,
    }
    rows = []
    for name, detector in {"two networks": "separate", "joint": "cnn"}.items():
        bundle = trained("joint", options.out / detector, {**settings, "detector": detector})
        rows.append([name, *detection(look(bundle, options.volumes, options.seed, 0))])
        print(table(["method", "P", "R", f"F in {RADIUS_UM:g} µm"], rows), end="\n\n", flush=True)
    seen = look(options.out / "cnn", options.volumes, options.seed, options.passes)
    rows.append([f"joint, less the {DROPPED:.0%} least sure", *without_the_least_sure(seen)])
    print(table(["method", "P", "R", f"F in {RADIUS_UM:g} µm"], rows), correlation(seen), sep="\n\n")


if __name__ == "__main__":
    main()
