"""`qcanet track`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import console, progress


def track(
    folder: Annotated[Path, typer.Argument(help="Output folder of `segment`.")],
    max_distance_um: Annotated[
        float, typer.Option(help="Largest movement of a nucleus between frames, in µm.", min=0, metavar="N")
    ] = 20.0,
    max_splitting_distance_um: Annotated[
        float,
        typer.Option(help="Largest distance between a daughter and its mother, in µm.", min=0, metavar="N"),
    ] = 25.0,
    max_frame_gap: Annotated[
        int, typer.Option(help="Frames in a row a nucleus may be missing.", min=0, metavar="N")
    ] = 2,
) -> None:
    """Track nuclei over time, find divisions and restore nuclei missing in frames."""
    from qcanet_monai.timelapse.criteria import read_tables
    from qcanet_monai.timelapse.lineage import track as run

    frames = len(read_tables(folder)[1])
    with progress("tracking", frames) as advance:
        found = run(
            folder,
            max_distance_um=max_distance_um,
            max_splitting_distance_um=max_splitting_distance_um,
            max_frame_gap=max_frame_gap,
            progress=advance,
        )
    for series, tracks, repairs in found:
        parents = [track.parent for track in tracks if track.parent]
        divided = len({parent for parent in parents if parents.count(parent) > 1})
        mended = ", ".join(f"{count} nuclei {kind}" for kind, count in sorted(repairs.items()))
        console.print(f"{series.name}: {len(tracks)} tracks, {divided} divisions{mended and ', ' + mended}")
    console.print(f"label images, tracks and tables in {folder / 'tracks'}")
