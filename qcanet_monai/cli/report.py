"""`qcanet report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import console


def report(
    folder: Annotated[Path, typer.Argument(help="Output folder of `segment`, with or without `track`.")],
    interval: Annotated[
        float | None, typer.Option(help="Minutes between frames, for folders that do not state it.", min=0)
    ] = None,
) -> None:
    """Write an HTML report of a segmentation that works offline."""
    from qcanet_monai.report.page import write_report

    console.print(str(write_report(folder, interval_min=interval)))
