"""Measure speed and its scaling with volume: python -m benchmarks.

Both sides of a ratio are measured alternately in this run. Only some of the original's 27 equal patches are
timed. With a GPU, its figures replace the CPU's; CUDA_VISIBLE_DEVICES= hides it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks import arrays, growth, inference
from benchmarks.picture import draw
from benchmarks.timing import Figure, write


def figures(quick: bool) -> Iterator[Figure]:
    """Yield every row of the table."""
    rounds = 1 if quick else 3
    if torch.cuda.is_available():
        yield from inference.card(rounds)
        return
    yield from inference.whole(rounds, 1 if quick else 4)
    yield from inference.cold(rounds)
    yield from inference.agreement()
    yield from inference.in_parts()
    yield from inference.rate(rounds)
    yield from inference.limit(rounds)
    yield from arrays.metrics(rounds)
    yield from arrays.criteria(rounds)
    yield from growth.doublings(2 if quick else 5)
    yield from growth.series(8 if quick else 64, 1 if quick else 4)
    if not quick:
        yield from growth.large()


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="Use fewer rounds, smaller volumes: five minutes."
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write the figures to FILE.")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="Draw the figures as PNG to FILE.")
    options = parser.parse_args()
    print("| what | measured (spread) | target | holds |\n|---|---|---|---|", flush=True)
    found = []
    for one in figures(options.quick):
        print(one, flush=True)
        found.append(one)
    if options.json:
        write(found, options.json)
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
