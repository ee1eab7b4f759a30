"""`qcanet calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from qcanet_monai.cli.options import Out, TrackingUri, console


def calibrate(
    bundle: Annotated[str, typer.Argument(help="Bundle: a name, a folder or models:/NAME@ALIAS.")],
    data: Annotated[Path, typer.Option(help="Dataset in BBBC050's layout that no training of it saw.")],
    out: Out,
    volumes: Annotated[int, typer.Option(help="Number of images to use, evenly spaced.")] = 16,
    tracking_uri: TrackingUri = None,
) -> None:
    """Choose a trained bundle's thresholds and grid on labelled images."""
    from qcanet_monai.evaluation.calibrate import calibrate as choose

    with console.status("") as status:
        found = choose(
            bundle,
            data=data,
            out=out,
            volumes=volumes,
            tracking_uri=tracking_uri,
            progress=lambda what, done, total: status.update(f"{what} {done} of {total}"),
        )
    table = Table("setting", "value")
    for key, value in found.settings.items():
        table.add_row(key, f"{value:g}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(
        f"panoptic quality {found.before.pq:.3f} -> {found.after.pq:.3f}, SEG {found.before.seg:.3f} -> "
        f"{found.after.seg:.3f} on {found.volumes} images"
    )
    console.print(f"bundle: {out}; next: qcanet segment IMAGES --model {out}", soft_wrap=True)
