"""Kill and resume the segmentation of a time-lapse: python -m benchmarks.long.

Simulates an embryo of one to about sixty nuclei in 502 frames of 51 × 120 × 122 voxels, as in BBBC050.
``qcanet segment`` is killed (SIGKILL) after half of the frames and started again. It must keep finished
frames, do the rest, and not grow in memory.
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
    """Simulate the images and write them to a folder."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames(0, number)):
        short = [(0, max(want - got, 0)) for want, got in zip(SHAPE, frame.image.shape, strict=True)]
        image = np.pad(frame.image, short, mode="edge")[tuple(map(slice, SHAPE))]
        write_volume(folder / f"embryo_t{index:03d}.tif", image, spacing=SPACING)


def run(images: Path, out: Path, until: int) -> list[tuple[int, float]]:
    """Segment until `until` frames are done, then kill; log frames done and GB used."""
    command = [str(QCANET), "segment", str(images), "--interval-min", str(INTERVAL_MIN), "--out", str(out)]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    seen: list[tuple[int, float]] = []
    while process.poll() is None:
        done = len(list(out.glob(".done/*.json")))
        try:
            seen.append((done, process.memory_info().rss / 1e9))
        except psutil.Error:  # the process has just ended
            break
        if done >= until:
            process.kill()
        time.sleep(0.5)
    process.wait()
    return seen


def measure(folder: Path) -> Iterator[Figure]:
    """Segment in two runs and yield the figures."""
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
    # not the first run: its large nuclei are predicted on coarser grids, in less memory
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
        help="Folder for images and results; existing images are used.",
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
