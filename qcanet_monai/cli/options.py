"""Options shared by several commands, and the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from qcanet_monai.errors import InputError

Spacing = Annotated[
    tuple[float, float, float] | None,
    typer.Option(
        help="Voxel size (z y x) in µm; overrides the file's. Required if a file states none.",
        metavar="Z Y X",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]

TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow, http(s) or sqlite:///FILE. Default: MLFLOW_TRACKING_URI, else ./mlflow.db."),
]

Experiment = Annotated[
    str | None, typer.Option(help="Log the results to this MLflow experiment of --tracking-uri.")
]

Storage = Annotated[
    str, typer.Option(help="Folder of studies, on a cluster shared by all nodes, or s3://BUCKET/FOLDER.")
]
Address = Annotated[str | None, typer.Option(help="Ray cluster, HOST:PORT or auto. Default: this machine.")]
Cache = Annotated[
    Path | None, typer.Option(help="Node folder for preprocessed volumes; a temporary folder by default.")
]

console = Console(highlight=False)


def named_paths(given: list[str]) -> dict[str, Path]:
    """Parse NAME=PATH arguments into paths by name."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise InputError(f"expected NAME=PATH, got {text!r}: for example baseline=runs/baseline")
        found[name] = Path(path)
    return found


def percentage(text: str) -> float:
    """Convert a text such as `10%` or `0.1` into a fraction."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise InputError(f"expected a share from 0% to below 100%, got {text!r}: for example 10%")
    return share


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on stderr; yield a function that advances the bar by one."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = Console(stderr=True)
    # outside a terminal the bar would leave an empty line between the errors
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
