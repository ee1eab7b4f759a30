"""`qcanet promote`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import TrackingUri, console


def promote(
    name: Annotated[
        str, typer.Argument(help="Shipped bundle's name; qcanet alone combines the champions of NSN and NDN.")
    ],
    study: Annotated[str | None, typer.Option(help="Study whose best trial is promoted.")] = None,
    trial: Annotated[str | None, typer.Option(help="Trial of the study, in place of the best.")] = None,
    bundle: Annotated[str | None, typer.Option(help="Bundle: bundled or a bundle's folder.")] = None,
    version: Annotated[str | None, typer.Option(help="Registered version to promote.")] = None,
    data: Annotated[Path | None, typer.Option(help="Dataset to compare on; the study's by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Skip the comparison with the champion.")] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Register a bundle; make it models:/NAME@champion unless it scores worse."""
    from qcanet_monai.promotion.promote import promote as run

    done = run(
        name,
        study=study,
        trial=trial,
        bundle=bundle,
        version=version,
        data=data,
        tracking_uri=tracking_uri,
        force=force,
    )
    console.print(
        f"models:/{name}@champion is version {done.version}: {done.metric} {done.score:.4f}", soft_wrap=True
    )
    if done.previous_score is not None:
        console.print(f"before: version {done.previous}, {done.previous_score:.4f} on the same data")
