"""`qcanet evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from qcanet_monai.cli.options import Experiment, Spacing, TrackingUri, console, named_paths


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
    experiment: Experiment = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Score label images against reference labels with every metric."""
    from qcanet_monai.errors import InputError
    from qcanet_monai.evaluation.evaluate import evaluate_labels
    from qcanet_monai.io import write_json

    tables = out is not None and out.suffix != ".json"
    if also and not tables:
        raise InputError("expected --out FOLDER with --also: the comparison is written there")
    if out is not None and tables:
        rows = _compare({prediction.name: prediction, **named_paths(also or [])}, reference, spacing, out)
        if experiment:
            log_comparison(rows, reference, out, experiment, tracking_uri, "qcanet evaluate")
        return
    results = evaluate_labels(prediction, reference, spacing=spacing)
    if out is not None:
        write_json(out, results)
    name = "mean" if "mean" in results else next(iter(results))
    if experiment:
        from qcanet_monai.registry.data import describe_labels
        from qcanet_monai.registry.results import log_results

        page = log_results(
            tracking_uri,
            experiment,
            prediction.name,
            source="qcanet evaluate",
            params={"prediction": prediction, "reference": reference},
            metrics=results[name],
            data=[describe_labels(reference)],
            files=[out] if out is not None else [],
        )
        console.print(f"logged: {page}", soft_wrap=True)
    table = Table("metric", name)
    for metric, value in results[name].items():
        table.add_row(metric, f"{value:.4f}".rstrip("0").rstrip("."))
    console.print(table)


def _compare(
    predictions: dict[str, Path], reference: Path, spacing: tuple[float, float, float] | None, out: Path
) -> list[dict[str, Any]]:
    from qcanet_monai.evaluation.comparison import compare_methods
    from qcanet_monai.report.comparison import write_report_of

    rows = compare_methods(predictions, reference, spacing=spacing)
    write_report_of(rows, out)
    show_comparison(out)
    return rows


def log_comparison(
    rows: list[dict[str, Any]],
    reference: Path,
    out: Path,
    experiment: str,
    tracking_uri: str | None,
    source: str,
) -> None:
    """Log a run per method, with its mean scores, to MLflow."""
    from qcanet_monai.evaluation.comparison import summarise
    from qcanet_monai.registry.data import describe_labels
    from qcanet_monai.registry.results import log_results

    data = [describe_labels(reference)]
    metrics = [key for key, value in rows[0].items() if isinstance(value, float)]
    means: dict[str, dict[str, float]] = {}
    for row in summarise(rows, metrics):
        if row["stage"] == "all":
            means.setdefault(row["method"], {})[row["metric"]] = row["mean"]
    for method, values in means.items():
        log_results(
            tracking_uri,
            experiment,
            method,
            source=source,
            params={"method": method, "reference": reference},
            metrics=values,
            data=data,
            files=[out / "table.md"],
        )
    console.print(f"logged {len(means)} runs to the experiment {experiment}", soft_wrap=True)


def show_comparison(out: Path) -> None:
    """Print the table of a comparison and its output folder."""
    console.print((out / "table.md").read_text(encoding="utf-8"), soft_wrap=True, markup=False)
    console.print(f"scores, tables and plots in {out}")
