"""Commands of `qcanet`; errors of the user end in one line and exit status 2."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from typing import Any

import typer

from qcanet_monai import __version__
from qcanet_monai.cli import (
    adapt,
    calibrate,
    compare,
    criteria,
    crossval,
    data,
    demo,
    evaluate,
    export,
    import_chainer,
    measure,
    promote,
    report,
    runs,
    segment,
    simulate,
    track,
    tune,
    ui,
    volume,
)
from qcanet_monai.errors import DataWarning, QCANetError
from qcanet_monai.renamed import renamed_options

_show_as_python = warnings.showwarning
_ALLOCATIONS = 200_000  # per garbage collection; Python's 700 slows down imports
app = typer.Typer(
    name="qcanet",
    help="Segment, count, measure and track the nuclei of 3-D embryo images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PANELS = {
    "Segment and measure": (demo, segment, measure, track, criteria, volume, report, evaluate, compare),
    "Train and search": (adapt, calibrate, tune, crossval, runs, ui),
    "Data": (simulate,),
    "Models": (promote, export, import_chainer),
}
for _panel, _modules in _PANELS.items():
    for _module in _modules:
        _name = _module.__name__.rpartition(".")[2]
        app.command(_name.replace("_", "-"), rich_help_panel=_panel)(getattr(_module, _name))
app.add_typer(data.app, name="data", rich_help_panel="Data")


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    if issubclass(category, DataWarning):
        print(f"qcanet: warning: {message}", file=sys.stderr)
    else:
        _show_as_python(message, category, *where, **more)


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_ALLOCATIONS)
    warnings.simplefilter("always", DataWarning)
    warnings.showwarning = _show_warning
    try:
        app(renamed_options(sys.argv[1:]))
    except QCANetError as error:
        print(f"qcanet: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("qcanet: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of stdout has closed, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
