"""Score a segmented and tracked time-lapse: python -m benchmarks.series.

Simulates an embryo of one to more than forty nuclei, one frame every ten minutes, with the simulator's plain
settings, whole in BBBC050's field. The shipped weights segment the series.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import Figure, figure
from qcanet_monai.core.metrics.tracks import tracks_of
from qcanet_monai.evaluation.evaluate import evaluate_labels
from qcanet_monai.io import write_labels, write_volume
from qcanet_monai.io.names import list_images
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.simulator.series import Frame, simulate_series
from qcanet_monai.simulator.settings import Simulation
from qcanet_monai.timelapse.criteria import Embryo, read_embryos
from qcanet_monai.timelapse.ctc import mask_name, write_tracks
from qcanet_monai.timelapse.lineage import track

SPACING = (1.75, 0.8, 0.8)
INTERVAL_MIN = 10.0
GENERATIONS = 6.3
UNSEEN = 909  # begins the seeds; no training uses it
FIELD = {"depth_um": 51 * 1.75, "width_um": 121 * 0.8, "first": 0.1}
SHIFTS = dict.fromkeys(("shift_z_um", "shift_y_um", "shift_x_um"), 0.0)


def frames(seed: int, number: int) -> Iterator[Frame]:
    """Simulate an embryo that stays in the field, without cell death."""
    view = {**FIELD, **SHIFTS, "oval": 0}
    settings = Simulation.model_validate({"view": view, "growth": {"apoptosis": 0}})
    return simulate_series(
        (UNSEEN, seed), timepoints=number, spacing=SPACING, generations=GENERATIONS, settings=settings
    )


def write(folder: Path, seed: int, number: int) -> None:
    """Write the images, true labels and true tracks."""
    images, labels, tracks = (folder / name for name in ("images", "labels", "tracks"))
    for one in (images, labels, tracks):
        one.mkdir(parents=True)
    parents: dict[int, int] = {}
    shown: list[list[int]] = []
    for index, frame in enumerate(frames(seed, number)):
        write_volume(images / f"embryo_t{index:03d}.tif", frame.image, spacing=SPACING)
        write_labels(labels / f"embryo_t{index:03d}_labels.tif", frame.instances, spacing=SPACING)
        write_labels(tracks / mask_name(index, kind="man_track"), frame.tracked, spacing=SPACING)
        parents |= dict(zip(frame.numbers, frame.parents, strict=True))
        shown.append(frame.numbers)
    write_tracks(tracks / "man_track.txt", tracks_of(shown, parents))


def numbers(embryo: Embryo) -> NDArray[np.int64]:
    """Count nuclei per time point."""
    return np.array([row["n_nuclei"] for row in embryo.timepoints])


def measure(folder: Path) -> Iterator[Figure]:
    """Segment and track the images, and compare with the ground truth."""
    images, out = list_images([folder / "images"]), folder / "out"
    begun = time.perf_counter()
    segment_files(images, out, load_segmenter(), interval_min=INTERVAL_MIN).raise_failures()
    segmented = time.perf_counter()
    track(out)
    tracked = time.perf_counter()
    (true,) = read_embryos(folder / "labels", interval_min=INTERVAL_MIN)
    for name, where in (("as segmented", out), ("as tracked", out / "tracks")):
        (found,) = read_embryos(where, interval_min=INTERVAL_MIN)
        within = float((abs(numbers(found) - numbers(true)) <= 1).mean())
        title = f"{len(images)} frames of 1 to {numbers(true).max()} nuclei, {name}"
        yield figure(f"{title}: share with a number within 1", [within], 0.95)
        hours = abs(found.stages["duration_h"].astype(float) - true.stages["duration_h"].astype(float))
        off = (hours * 60 / INTERVAL_MIN).tolist()
        yield Figure(
            f"{title}: frames by which a stage's duration is off", max(off), min(off), max(off), 2, True
        )
    scores = evaluate_labels(out / "tracks/embryo_RES", folder / "tracks")["tracks"]
    for name, target in (("tra", 0.95), ("divisions_f1", 0.85), ("det", 0.95), ("seg", 0.75)):
        yield figure(name, [scores[name]], target)
    yield figure("seconds a frame, segmentation", [(segmented - begun) / len(images)], 2.0, at_most=True)
    yield figure("seconds a frame, tracking", [(tracked - segmented) / len(images)], 1.0, at_most=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="New folder for images and results.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch) / "series"
        write(folder, options.seed, options.frames)
        print("| what | measured (spread) | target | holds |\n|---|---|---|---|")
        for one in measure(folder):
            print(one, flush=True)


if __name__ == "__main__":
    main()
