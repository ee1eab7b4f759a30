"""`qcanet demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from qcanet_monai.cli.options import console


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("demo"),
    timepoints: Annotated[int, typer.Option(help="Frames of the segmented embryo.")] = 18,
    seed: Annotated[int, typer.Option(help="Random seed of the segmented embryo.")] = 7,
) -> None:
    """Search, promote, segment, track and report on simulated embryos, in minutes."""
    from qcanet_monai.cli.study_display import StudyDisplay
    from qcanet_monai.report.page import write_report
    from qcanet_monai.tuning.demo import run_demo

    with StudyDisplay() as live:
        done = run_demo(out, timepoints=timepoints, seed=seed, watch=live.watch, stage=live.stage)
    page = write_report(done.segmentation)
    live.summary(done.outcome)
    for champion in done.champions:
        score = f"{champion.metric} {champion.score:.3f} on the study's embryos"
        console.print(f"models:/{champion.name}@champion is version {champion.version}: {score}")
    title = "an unseen embryo, segmented by the champions"
    table = Table("frame", "nuclei", "found", "IoU", "SEG", "detection F", title=title)
    for name, s in done.scores.items():
        shares = (s["iou"], s["seg"], s["detection_f_3.28um"])
        table.add_row(name, f"{s['n_ref']:g}", f"{s['n_pred']:g}", *(f"{value:.3f}" for value in shares))
    console.print(table)
    tra, divisions = done.tracks["tra"], done.tracks["divisions_f1"]
    console.print(f"its tracks: TRA {tra:.3f}, F of divisions {divisions:.3f}")
    console.print(f"labels, overlays and tables: {done.segmentation}; scores: {out / 'scores.json'}")
    console.print(f"the report: {page}")
    console.print(f"trials, plots and models: qcanet ui --tracking-uri {done.tracking_uri}", soft_wrap=True)
