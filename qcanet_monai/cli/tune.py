"""`qcanet tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import Address, Cache, Storage, TrackingUri, console


def tune(
    study: Annotated[
        str,
        typer.Argument(
            help="Study's YAML file, or a shipped study: nsn, ndn, joint, cellseg3d, spindle, recipe, smoke."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Dataset in BBBC050's layout; the study's by default.")
    ] = None,
    storage: Storage = Path("runs/studies"),
    tracking_uri: TrackingUri = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; the file's by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted study.")] = False,
    address: Address = None,
    cache: Cache = None,
) -> None:
    """Search a bundle's settings; log all trials to MLflow, keep the best bundle."""
    from qcanet_monai.cli.study_display import StudyDisplay
    from qcanet_monai.tuning.tune import run_study

    with StudyDisplay() as live:
        outcome = run_study(
            study,
            storage=storage,
            data=data,
            tracking_uri=tracking_uri,
            name=name,
            address=address,
            cache=cache,
            resume=resume,
            watch=live.watch,
            stage=live.stage,
        )
    live.summary(outcome)
    console.print(f"bundle: {outcome.bundle}; plots: {outcome.folder / 'plots.html'}")
    console.print(f"next: qcanet promote {outcome.bundle_name} --study {outcome.folder.name}, or qcanet ui")
