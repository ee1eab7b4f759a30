"""`qcanet evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from qcanet_monai.cli.options import Spacing, console, named_paths


def evaluate(
    prediction: Annotated[Path, typer.Argument(help="Label image, folder of images, or tracked series.")],
    reference: Annotated[Path, typer.Argument(help="Reference image, or folder with the same names.")],
    spacing: Spacing = None,
    out: Annotated[
        Path | None,
        typer.Option(help="FILE.json for the scores, or a folder for scores, tables by stage and plots."),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="NAME=LABELS of another method, needs --out FOLDER; repeatable."),
    ] = None,
) -> None:
    """Score label images against reference labels with every metric."""
    from qcanet_monai.errors import InputError
    from qcanet_monai.evaluation.evaluate import evaluate_labels
    from qcanet_monai.io import write_json

    tables = out is not None and out.suffix != ".json"
    if also and not tables:
        raise InputError("expected --out FOLDER with --also: the comparison is written there")
    if out is not None and tables:
        _compare({prediction.name: prediction, **named_paths(also or [])}, reference, spacing, out)
        return
    results = evaluate_labels(prediction, reference, spacing=spacing)
    if out is not None:
        write_json(out, results)
    name = "mean" if "mean" in results else next(iter(results))
    table = Table("metric", name)
    for metric, value in results[name].items():
        table.add_row(metric, f"{value:.4f}".rstrip("0").rstrip("."))
    console.print(table)


def _compare(
    predictions: dict[str, Path], reference: Path, spacing: tuple[float, float, float] | None, out: Path
) -> None:
    from qcanet_monai.evaluation.comparison import compare_methods
    from qcanet_monai.report.comparison import write_report_of

    write_report_of(compare_methods(predictions, reference, spacing=spacing), out)
    show_comparison(out)


def show_comparison(out: Path) -> None:
    """Print the table of a comparison and its output folder."""
    console.print((out / "table.md").read_text(encoding="utf-8"), soft_wrap=True, markup=False)
    console.print(f"scores, tables and plots in {out}")
