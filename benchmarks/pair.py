"""Compare a search for NSN and NDN together with two searches.

``python -m benchmarks.pair`` runs the study qcanet for some hours. Then it runs studies of NSN (by IoU) and
NDN (by F), each for half the time, on the same data and over the same settings. It prints the SEG of both
pairs on unseen simulated volumes. The pair of the two studies has default thresholds; another row shows it
after a calibration on the same validation volumes.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.accuracy import UNSEEN
from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import seg
from qcanet_monai.evaluation.calibrate import calibration
from qcanet_monai.io import Volume
from qcanet_monai.io.dataset import split
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.segmentation.segmenter import Segmenter
from qcanet_monai.simulator.series import simulate_frame
from qcanet_monai.simulator.settings import shipped
from qcanet_monai.training.export import write_knobs
from qcanet_monai.tuning.study_file import study_path
from qcanet_monai.tuning.tune import run_study

_SEED = (UNSEEN, 5)
VOLUMES = 40


def of_one_network(study: dict[str, Any], name: str) -> dict[str, Any]:
    """Turn the study of the pair into that of one network, for half the time."""
    other = {"nsn": "ndn", "ndn": "nsn"}[name]

    def own(settings: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in settings.items() if f"#{other}#" not in key}
        return {key.removeprefix(f"networks#{name}#"): value for key, value in kept.items()}

    points = [own(point) for point in study["starting_points"]]
    changes = {"bundle": name, "space": own(study["space"]), "starting_points": points, "calibrate": False}
    return {**study, **changes, "hours": study["hours"] / 2}


def score(segmenter: Segmenter) -> list[float]:
    """Compute the SEG of unseen volumes with nuclei."""
    values = []
    for index in range(VOLUMES):
        frame = simulate_frame((*_SEED, index), settings=shipped().with_tissue(0.0))
        volume = Volume(frame.image, frame.spacing, Path(f"simulated-{index}"))
        values.append(seg(overlap_table(frame.instances, segmenter(volume).labels)))
    return [value for value in values if not math.isnan(value)]


def main() -> None:
    """Print a row per pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/pair"), help="Folder of the studies.")
    parser.add_argument("--hours", type=float, default=0.75, help="Hours of search for each pair.")
    options = parser.parse_args()
    out, uri = options.out, f"sqlite:///{options.out.resolve()}/mlflow.db"
    out.mkdir(parents=True, exist_ok=True)
    study = {**yaml.safe_load(study_path("qcanet").read_text(encoding="utf-8")), "hours": options.hours}
    best = {}
    for name in ("qcanet", "nsn", "ndn"):
        path = out / f"{name}.yaml"
        content = study if name == "qcanet" else of_one_network(study, name)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        begun = (out / name / "study.json").exists()
        best[name] = run_study(path, storage=out, tracking_uri=uri, resume=begun, stage=print).bundle
    apart = Bundle.find("qcanet").with_parts({name: Bundle(best[name]) for name in ("nsn", "ndn")})
    joined = out / "apart-calibrated"
    known = {key: study["settings"][key] for key in ("folds",)}
    items = split(
        out / "qcanet/data", "QCANet", "validation", **known, at_most=study["settings"]["validation_volumes"]
    )
    if not joined.exists():
        apart.copy_to(joined)
        write_knobs(joined, calibration(apart, items).settings)
    rows = {
        "searched together": load_segmenter(best["qcanet"]),
        "searched apart": Segmenter(apart),
        "searched apart, then calibrated": load_segmenter(joined),
    }
    print(f"| pair | SEG on {VOLUMES} unseen volumes | standard error |\n|---|---:|---:|")
    for name, segmenter in rows.items():
        values = score(segmenter)
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        print(f"| {name} | {np.mean(values):.3f} | {error:.3f} |", flush=True)


if __name__ == "__main__":
    main()
