"""`qcanet track`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import console, progress


def track(
    folder: Annotated[Path, typer.Argument(help="What `segment` has written.")],
    max_distance_um: Annotated[
        float, typer.Option(help="µm that a nucleus may move between frames.", min=0)
    ] = 20.0,
    max_splitting_distance_um: Annotated[
        float, typer.Option(help="µm from its mother at which a daughter may begin.", min=0)
    ] = 25.0,
    max_frame_gap: Annotated[int, typer.Option(help="Frames for which a nucleus may be lost.", min=0)] = 2,
) -> None:
    """Link nuclei in time: tracks, divisions, and nuclei put back that single frames lack."""
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
