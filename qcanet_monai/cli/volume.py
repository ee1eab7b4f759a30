"""`qcanet volume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import Spacing, console


def volume(
    folder: Annotated[Path, typer.Argument(help="Output folder of `segment`, or label images.")],
    reference: Annotated[
        Path | None, typer.Option(help="Reference labels, or a CSV with columns image and volume_um3.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; FOLDER by default.")] = None,
    spacing: Spacing = None,
    interval_min: Annotated[
        float | None, typer.Option(help="Minutes between frames, for files that do not state it.", min=0)
    ] = None,
) -> None:
    """Measure volume over time, and its relative error against a reference."""
    from qcanet_monai.io import output_folder
    from qcanet_monai.report.volume import write_volume_report
    from qcanet_monai.timelapse.volumes import volumes_over_time

    rows = volumes_over_time(folder, reference, spacing=spacing, interval_min=interval_min)
    table = write_volume_report(rows, output_folder(out or folder))
    errors = [row["relative_error"] for row in rows if row["relative_error"] == row["relative_error"]]
    if errors:
        console.print(f"mean relative error {sum(errors) / len(errors):.1%} over {len(errors)} images")
    console.print(f"{table} and {table.with_suffix('.png')}")
