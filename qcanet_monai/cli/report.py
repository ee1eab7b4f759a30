"""`qcanet report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import console


def report(
    folder: Annotated[Path, typer.Argument(help="What `segment`, and perhaps `track`, has written.")],
    interval: Annotated[
        float | None, typer.Option(help="Minutes between frames, where the folder does not state it.", min=0)
    ] = None,
) -> None:
    """Figures of everything, on one page that needs no network."""
    from qcanet_monai.report.page import write_report

    console.print(str(write_report(folder, interval_min=interval)))
