"""`qcanet promote`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import TrackingUri, console


def promote(
    name: Annotated[
        str, typer.Argument(help="A shipped bundle's name, or qcanet for both champions together.")
    ],
    study: Annotated[str | None, typer.Option(help="The best trial of this study.")] = None,
    trial: Annotated[str | None, typer.Option(help="Another trial of the study.")] = None,
    bundle: Annotated[str | None, typer.Option(help="`bundled` or a bundle's folder.")] = None,
    version: Annotated[str | None, typer.Option(help="A version that is registered already.")] = None,
    data: Annotated[Path | None, typer.Option(help="Dataset to compare on; the study's by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Do not compare with the champion.")] = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Register a bundle and make it models:/NAME@champion, unless the present champion is better."""
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
