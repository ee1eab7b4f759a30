"""A time-lapse as long as the paper's, killed half-way: python -m benchmarks.long.

A simulated embryo of one to some sixty nuclei in frames of 51 × 120 × 122 voxels, as in BBBC050, is segmented
by ``qcanet segment``, which is killed with SIGKILL when half of the frames are there and started again. What
was done must be left alone and the rest be done; the memory must not grow.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks.series import INTERVAL_MIN, SPACING, frames
from benchmarks.timing import Figure, figure
from qcanet_monai.io import write_volume

QCANET = Path(sys.executable).with_name("qcanet")
SHAPE = (51, 120, 122)


def write(folder: Path, number: int) -> None:
    """The images."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames(0, number)):
        short = [(0, max(want - got, 0)) for want, got in zip(SHAPE, frame.image.shape, strict=True)]
        image = np.pad(frame.image, short, mode="edge")[tuple(map(slice, SHAPE))]
        write_volume(folder / f"embryo_t{index:03d}.tif", image, spacing=SPACING)


def run(images: Path, out: Path, until: int) -> list[tuple[int, float]]:
    """Segment until so many frames are there, then kill; frames done and GB in use, each half second."""
    command = [str(QCANET), "segment", str(images), "--interval-min", str(INTERVAL_MIN), "--out", str(out)]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    seen: list[tuple[int, float]] = []
    while process.poll() is None:
        done = len(list(out.glob(".done/*.json")))
        try:
            seen.append((done, process.memory_info().rss / 1e9))
        except psutil.Error:  # it has just ended
            break
        if done >= until:
            process.kill()
        time.sleep(0.5)
    process.wait()
    return seen


def measure(folder: Path) -> Iterator[Figure]:
    """Segment in two goes."""
    images, out = folder / "images", folder / "out"
    number = len(list(images.iterdir()))
    begun = time.perf_counter()
    first = run(images, out, number // 2)
    kept = {path: path.stat().st_mtime_ns for path in out.glob(".done/*.json")}
    second = run(images, out, number + 1)
    whole = time.perf_counter() - begun
    again = sum(path.stat().st_mtime_ns != when for path, when in kept.items())
    yield figure("frames done when killed", [len(kept)], number // 2)
    yield figure("frames of these that were done again", [again], 0, at_most=True)
    yield figure("frames done in the end", [len(list(out.glob("*_labels.tif")))], number)
    # before the kill the nuclei are large and the networks look on coarser grids: that would be growth
    early = max(gb for done, gb in second if done - second[0][0] <= number // 10)
    late = max(gb for _, gb in second)
    yield figure(
        "after the kill, most memory over that of its first tenth", [late / early], 1.15, at_most=True
    )
    yield figure("most memory in GB", [max(late, *(gb for _, gb in first))], 4, at_most=True)
    yield figure("seconds a frame, with both starts", [whole / number], 2.0, at_most=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=502)
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="a folder for the results, and for the images unless they are there",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch) / "series"
        if not (folder / "images").is_dir():
            write(folder / "images", options.frames)
        print("| what | measured (spread) | target | holds |\n|---|---|---|---|")
        for one in measure(folder):
            print(one, flush=True)


if __name__ == "__main__":
    main()
