"""`qcanet demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from qcanet_monai.cli.options import console, progress


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("demo"),
    timepoints: Annotated[int, typer.Option(help="Frames of the simulated embryo.")] = 6,
    seed: Annotated[int, typer.Option(help="Fixes the embryo.")] = 7,
) -> None:
    """Simulate a small embryo, segment it with the shipped weights, and score the result."""
    from qcanet_monai.workflows.demo import run_demo

    with progress("demo", timepoints) as advance:
        rows = run_demo(out, timepoints=timepoints, seed=seed, progress=advance)
    table = Table("frame", "nuclei", "found", "IoU", "SEG", "detection F", title="a simulated embryo")
    for name, s in rows.items():
        shares = (s["iou"], s["seg"], s["detection_f_3.28um"])
        table.add_row(name, f"{s['n_ref']:g}", f"{s['n_pred']:g}", *(f"{value:.3f}" for value in shares))
    console.print(table)
    console.print(f"labels, overlays and tables: {out / 'segmentation'}")
    console.print(f"scores: {out / 'scores.json'}; the images with their truth: {out / 'data'}")
