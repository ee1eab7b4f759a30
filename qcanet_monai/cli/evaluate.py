"""`qcanet evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from qcanet_monai.cli.options import Spacing, console


def evaluate(
    prediction: Annotated[Path, typer.Argument(help="Label image, a folder of them, or a tracked series.")],
    reference: Annotated[Path, typer.Argument(help="Reference labels, or a folder with the same names.")],
    spacing: Spacing = None,
    out: Annotated[Path | None, typer.Option(help="Write the scores there as well, as JSON.")] = None,
) -> None:
    """Score label images against references, with every metric."""
    from qcanet_monai.io import write_json
    from qcanet_monai.workflows.evaluate import evaluate_paths

    results = evaluate_paths(prediction, reference, spacing=spacing)
    if out is not None:
        write_json(out, results)
    name = "mean" if "mean" in results else next(iter(results))
    table = Table("metric", name)
    for metric, value in results[name].items():
        table.add_row(metric, f"{value:.4f}".rstrip("0").rstrip("."))
    console.print(table)
