"""`qcanet data`: datasets to train on and to score with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from qcanet_monai.cli.options import Spacing, console

if TYPE_CHECKING:
    from qcanet_monai.datasets.sources import Dataset

Folder = Annotated[Path, typer.Argument(help="New or empty folder for the dataset.")]

app = typer.Typer(help="Make a dataset of real embryos, to train on and to score with.", no_args_is_help=True)


@app.command("bbbc050")
def bbbc050(
    folder: Folder,
    url: Annotated[str | None, typer.Option(hidden=True, help="Another server.")] = None,
) -> None:
    """Download BBBC050: mouse embryos, 121 images to train on and 44 to test (CC BY 3.0)."""
    from qcanet_monai.datasets import sources as datasets

    with _progress() as show:
        made = datasets.bbbc050(folder, base_url=url or datasets.BBBC050_URL, progress=show)
    _tell(made, folder)


@app.command("ctc")
def ctc(
    folder: Folder,
    source: Annotated[
        Path, typer.Option(help="A 3-D dataset of the Cell Tracking Challenge, unpacked: it holds 01, 01_GT.")
    ],
    spacing: Spacing = None,
) -> None:
    """Take a dataset of the Cell Tracking Challenge; each of its sequences is an embryo."""
    from qcanet_monai.datasets import sources as datasets

    with _progress() as show:
        made = datasets.ctc(folder, source, spacing=spacing, progress=show)
    _tell(made, folder)


@app.command("own")
def own(
    folder: Folder,
    source: Annotated[
        Path, typer.Option(help="Folder with images/ and labels/ of the same names, the embryo's name first.")
    ],
    spacing: Spacing = None,
) -> None:
    """Take your own images and instance labels."""
    from qcanet_monai.datasets import sources as datasets

    with _progress() as show:
        made = datasets.own(folder, source, spacing=spacing, progress=show)
    _tell(made, folder)


@app.command("split")
def split(
    folder: Annotated[Path, typer.Argument(help="Dataset in BBBC050's layout.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for fold00.json and so on.")],
    folds: Annotated[int, typer.Option(help="Parts, each held out once.", min=2)] = 11,
    by: Annotated[
        str, typer.Option(help="What is held out: `embryo`, or `time`, a time point of every embryo.")
    ] = "embryo",
) -> None:
    """Write the folds of a cross-validation as datalists, for any training's `datalist`."""
    from qcanet_monai.io.dataset import write_datalists

    lists = write_datalists(folder, out, folds=folds, by=by)
    console.print(f"{len(lists)} datalists in {out}; train with --datalist {lists[0]}", soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar on stderr, of one thing after another; none away from a terminal."""
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total or None
        )


def _tell(made: Dataset, folder: Path) -> None:
    test = f", {made.test} to test on" if made.test else ""
    done = "" if made.new else "; it was there already, nothing was done"
    console.print(f"{made.train} images of {made.embryos} embryos to train on{test} in {folder}{done}")
    if made.embryos < 2:
        console.print("a training holds whole embryos out for validation, and so needs 2 of them or more")
