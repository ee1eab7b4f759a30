"""Commands of `qcanet`; errors of the user end in one line and exit status 2."""

from __future__ import annotations

import gc
import os
import sys

import typer

from qcanet_monai import __version__
from qcanet_monai.cli import (
    adapt,
    compare,
    criteria,
    crossval,
    data,
    demo,
    evaluate,
    export,
    import_chainer,
    promote,
    report,
    segment,
    simulate,
    track,
    tune,
    ui,
    volume,
)
from qcanet_monai.cli.renamed import renamed
from qcanet_monai.errors import QCANetError

_ALLOCATIONS = 200_000  # per garbage collection; Python's 700 slows down imports
# panels of `qcanet --help`
_SEGMENT, _TRAIN, _DATA, _MODELS = "Segment and measure", "Train and search", "Data", "Models"

app = typer.Typer(
    name="qcanet",
    help="Segment, count, measure and track the nuclei of 3-D embryo images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo", rich_help_panel=_SEGMENT)(demo.demo)
app.command("segment", rich_help_panel=_SEGMENT)(segment.segment)
app.command("track", rich_help_panel=_SEGMENT)(track.track)
app.command("criteria", rich_help_panel=_SEGMENT)(criteria.criteria)
app.command("volume", rich_help_panel=_SEGMENT)(volume.volume)
app.command("report", rich_help_panel=_SEGMENT)(report.report)
app.command("evaluate", rich_help_panel=_SEGMENT)(evaluate.evaluate)
app.command("compare", rich_help_panel=_SEGMENT)(compare.compare)
app.command("adapt", rich_help_panel=_TRAIN)(adapt.adapt)
app.command("tune", rich_help_panel=_TRAIN)(tune.tune)
app.command("crossval", rich_help_panel=_TRAIN)(crossval.crossval)
app.command("ui", rich_help_panel=_TRAIN)(ui.ui)
app.command("simulate", rich_help_panel=_DATA)(simulate.simulate)
app.add_typer(data.app, name="data", rich_help_panel=_DATA)
app.command("promote", rich_help_panel=_MODELS)(promote.promote)
app.command("export", rich_help_panel=_MODELS)(export.export)
app.command("import-chainer", rich_help_panel=_MODELS)(import_chainer.import_chainer)


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_ALLOCATIONS)
    try:
        app(renamed(sys.argv[1:]))
    except QCANetError as error:
        print(f"qcanet: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("qcanet: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of stdout has closed, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
