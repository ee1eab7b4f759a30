"""`qcanet data`."""

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

app = typer.Typer(help="Prepare datasets of real embryos for training and scoring.", no_args_is_help=True)


@app.command("bbbc050")
def bbbc050(
    folder: Folder,
    url: Annotated[str | None, typer.Option(hidden=True, help="Server to download from.")] = None,
) -> None:
    """Download BBBC050: mouse embryos, 121 training and 44 test images (CC BY 3.0)."""
    from qcanet_monai.datasets import sources as datasets

    with _progress() as show:
        made = datasets.bbbc050(folder, base_url=url or datasets.BBBC050_URL, progress=show)
    _tell(made, folder)


@app.command("ctc")
def ctc(
    folder: Folder,
    source: Annotated[
        Path, typer.Option(help="Unpacked 3-D Cell Tracking Challenge dataset, with folders 01 and 01_GT.")
    ],
    spacing: Spacing = None,
) -> None:
    """Convert a Cell Tracking Challenge dataset; each sequence is an embryo."""
    from qcanet_monai.datasets import sources as datasets

    with _progress() as show:
        made = datasets.ctc(folder, source, spacing=spacing, progress=show)
    _tell(made, folder)


@app.command("own")
def own(
    folder: Folder,
    source: Annotated[
        Path, typer.Option(help="Folder with images/ and labels/ of the same file names, embryo name first.")
    ],
    spacing: Spacing = None,
) -> None:
    """Convert your own images and instance labels."""
    from qcanet_monai.datasets import sources as datasets

    with _progress() as show:
        made = datasets.own(folder, source, spacing=spacing, progress=show)
    _tell(made, folder)


@app.command("split")
def split(
    folder: Annotated[Path, typer.Argument(help="Dataset in BBBC050's layout.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for fold00.json, fold01.json, …")],
    folds: Annotated[int, typer.Option(help="Number of folds.", min=2)] = 11,
    by: Annotated[
        str, typer.Option(help="Held-out unit: embryo, or time for one time point of every embryo.")
    ] = "embryo",
) -> None:
    """Write cross-validation folds as datalists for a training's `datalist`."""
    from qcanet_monai.io.dataset import write_datalists

    lists = write_datalists(folder, out, folds=folds, by=by)
    console.print(f"{len(lists)} datalists in {out}; train with --datalist {lists[0]}", soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show one progress bar on stderr for successive tasks, on a terminal only."""
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total or None
        )


def _tell(made: Dataset, folder: Path) -> None:
    test = f", {made.test} to test on" if made.test else ""
    done = "" if made.new else "; the dataset exists, nothing was done"
    console.print(f"{made.train} images of {made.embryos} embryos to train on{test} in {folder}{done}")
    if made.embryos < 2:
        console.print("training needs at least 2 embryos: whole embryos are held out for validation")
