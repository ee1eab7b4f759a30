"""`qcanet measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.fast_imports import import_monai
from qcanet_monai.cli.options import Spacing, TrackingUri, console


def measure(
    folder: Annotated[Path, typer.Argument(help="Output folder of `segment`, or any label images.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="Their images, if not as in run.json; repeatable.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model that measures confidence. Default: that of run.json.")
    ] = None,
    spacing: Spacing = None,
    interval_min: Annotated[
        float | None,
        typer.Option(help="Minutes between frames, if not as in run.json.", min=0, metavar="MIN"),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Measure label images again, e.g. after edits by hand; the labels stay."""
    import_monai()
    from qcanet_monai.segmentation.measure_labels import measure_labels

    found = measure_labels(
        folder,
        images=images or (),
        model=model,
        spacing=spacing,
        interval_min=interval_min,
        tracking_uri=tracking_uri,
    )
    for stem, count in found.items():
        console.print(f"{stem}: {count} objects")
    console.print(f"nuclei.csv and timepoints.csv in {folder}")
