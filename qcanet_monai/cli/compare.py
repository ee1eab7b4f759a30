"""`qcanet compare`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.evaluate import log_comparison, show_comparison
from qcanet_monai.cli.options import Experiment, Out, Spacing, TrackingUri, named_paths, progress


def compare(
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    reference: Annotated[
        Path, typer.Option(help="Reference labels: a folder with the images' names, or a file for one image.")
    ],
    out: Out,
    spacing: Spacing = None,
    nsn: Annotated[str, typer.Option(help="NSN: bundled, a bundle's folder or models:/NAME@ALIAS.")] = (
        "bundled"
    ),
    ndn: Annotated[str, typer.Option(help="NDN: same choices.")] = "bundled",
    unet: Annotated[
        str | None, typer.Option(help="3D U-Net baseline: same choices; left out by default.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="NAME=LABELS of another method, a folder or an image; repeatable."),
    ] = None,
    experiment: Experiment = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Compare QCANet with baselines: scores, the paper's table, plots over time."""
    from qcanet_monai.evaluation.baselines import MethodSet, run_comparison
    from qcanet_monai.report.comparison import write_report_of

    contest = MethodSet(nsn, ndn, unet, named_paths(also or []), tracking_uri)
    with ExitStack() as bars:

        def stage(name: str, images: int) -> Callable[[object], None]:
            bars.close()
            advance = bars.enter_context(progress(name, images))
            return lambda _image: advance()

        rows = run_comparison(inputs, reference, out, contest, spacing=spacing, stage=stage)
    write_report_of(rows, out)
    show_comparison(out)
    if experiment:
        log_comparison(rows, reference, out, experiment, tracking_uri, "qcanet compare")
