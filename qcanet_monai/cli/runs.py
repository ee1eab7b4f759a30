"""`qcanet runs`."""

from __future__ import annotations

import typer
from rich.table import Table

from qcanet_monai.cli.options import TrackingUri, console


def runs(tracking_uri: TrackingUri = None) -> None:
    """List the studies in MLflow with their best values and pages."""
    from qcanet_monai.registry.store import SQLITE, store_uri
    from qcanet_monai.registry.studies import address, studies

    uri = store_uri(tracking_uri)
    found = studies(uri)
    if not found:
        console.print(f"no studies in {uri}", soft_wrap=True)
        raise typer.Exit
    table = Table("study", "bundle", "status", "started", "best", "trial")
    for study in found:
        best = "" if study.best is None else f"{study.objective} {study.best:.4f}"
        started = study.started.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(study.name, study.bundle, study.status, started, best, study.best_trial)
    console.print(table)
    for study in found:
        console.print(f"{study.name}: {address(uri, study.page)}", soft_wrap=True)
    if uri.startswith(SQLITE):
        console.print("start these pages with: qcanet ui", soft_wrap=True)
