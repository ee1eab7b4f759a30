"""`qcanet`: its verbs, and how an error reaches a person: one line, exit status 2."""

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

_ALLOCATIONS = 200_000  # until a collection; with Python's 700, imports are looked through again and again

app = typer.Typer(
    name="qcanet",
    help="Nuclei of 3-D embryo images: segmented, counted, measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("simulate")(simulate.simulate)
app.command("segment")(segment.segment)
app.add_typer(data.app, name="data")
app.command("tune")(tune.tune)
app.command("crossval")(crossval.crossval)
app.command("promote")(promote.promote)
app.command("ui")(ui.ui)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("track")(track.track)
app.command("criteria")(criteria.criteria)
app.command("report")(report.report)
app.command("volume")(volume.volume)
app.command("import-chainer")(import_chainer.import_chainer)
app.command("export")(export.export)
app.command("adapt")(adapt.adapt)


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: a user's mistake ends in one line and exit status 2."""
    gc.set_threshold(_ALLOCATIONS)
    try:
        app(renamed(sys.argv[1:]))
    except QCANetError as error:
        print(f"qcanet: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("qcanet: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
