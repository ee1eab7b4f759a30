"""`qcanet simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import Spacing, console, progress


def simulate(
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the dataset.")],
    embryos: Annotated[int, typer.Option(help="Embryos in the training part.")] = 4,
    timepoints: Annotated[int, typer.Option(help="Frames per embryo.")] = 11,
    test_embryos: Annotated[int, typer.Option(help="Embryos in the test part.")] = 0,
    generations: Annotated[
        float | None, typer.Option(help="Cell cycles per series; by default 6.6, for 60 nuclei or more.")
    ] = None,
    settings: Annotated[
        str | None, typer.Option(help="cells, spindle, or a YAML file of distributions; embryos by default.")
    ] = None,
    tissue_fraction: Annotated[
        float | None,
        typer.Option(help="Fraction of embryos replaced by pieces of tissue; the settings' by default."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    spacing: Spacing = None,
    workers: Annotated[int | None, typer.Option(help="Processes; one per core by default.")] = None,
) -> None:
    """Simulate embryos, cells or spindles with ground truth, in BBBC050's layout."""
    from qcanet_monai.datasets.simulate import simulate_dataset

    with progress("simulating", embryos + test_embryos) as advance:
        written = simulate_dataset(
            folder,
            embryos=embryos,
            timepoints=timepoints,
            test_embryos=test_embryos,
            seed=seed,
            spacing=spacing,
            generations=generations,
            settings=settings,
            tissue_fraction=tissue_fraction,
            workers=workers,
            progress=advance,
        )
    console.print(f"{written} images of {embryos + test_embryos} embryos with their truth in {folder}")
