"""`qcanet criteria`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from qcanet_monai.cli.options import Spacing, console
from qcanet_monai.errors import InputError


def criteria(
    sources: Annotated[
        list[Path], typer.Argument(help="Output folders of `segment` or `track`, or label images.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables; criteria/ in the first source by default.")
    ] = None,
    spacing: Spacing = None,
    interval_min: Annotated[
        float | None, typer.Option(help="Minutes between frames, for sources that do not state it.", min=0)
    ] = None,
    blastocyst: Annotated[
        list[str] | None,
        typer.Option(help="Hour of blastocyst formation, for alignment; repeatable.", metavar="EMBRYO=HOURS"),
    ] = None,
) -> None:
    """Measure number, volume, surface, stages, synchrony, inner and outer cells."""
    from qcanet_monai.timelapse.criteria import read_embryos, write_criteria

    embryos = [
        embryo
        for source in sources
        for embryo in read_embryos(source, interval_min=interval_min, spacing=spacing)
    ]
    first = sources[0]
    target = out or (first if first.is_dir() else first.parent) / "criteria"
    write_criteria(embryos, target, blastocyst_h=dict(map(_time, blastocyst or [])))
    table = Table("embryo", "frames", "nuclei at most", "stages of an hour or more", "asynchronous")
    for embryo in embryos:
        stages = embryo.stages["stage"][embryo.stages["reached"] == 1]
        most = max(row["n_nuclei"] for row in embryo.timepoints)
        flag = "yes" if embryo.synchrony.asynchronous else "no"
        table.add_row(embryo.name, str(len(embryo.timepoints)), str(most), " ".join(stages), flag)
    console.print(table)
    for embryo in embryos:
        if embryo.series.hours is not None:
            console.print(f"{embryo.name}: times are those in the names of its images")
        if embryo.series.missing:
            missing = ", ".join(map(str, embryo.series.missing))
            console.print(f"{embryo.name}: frames {missing} are missing; times include them")
    console.print(f"tables in {target}")


def _time(text: str) -> tuple[str, float]:
    name, sign, hours = text.rpartition("=")
    try:
        if sign and name:
            return name, float(hours)
    except ValueError:
        pass
    raise InputError(f"expected --blastocyst EMBRYO=HOURS, got {text!r}")
