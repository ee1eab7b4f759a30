"""`qcanet tune`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import Address, Cache, Storage, TrackingUri, console


def tune(
    study: Annotated[
        str,
        typer.Argument(
            help="Study's YAML file, or a shipped study: qcanet, nsn, ndn, joint, cellseg3d, spindle, "
            "recipe, smoke."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Dataset in BBBC050's layout; the study's by default.")
    ] = None,
    storage: Storage = "runs/studies",
    tracking_uri: TrackingUri = None,
    name: Annotated[str | None, typer.Option(help="Name of the study; the file's by default.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials. Default: as in the study.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours of search. Default: as in the study.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Epochs of a trial with the full budget. Default: as in the study."),
    ] = None,
    cpus: Annotated[float | None, typer.Option(help="CPU cores per trial. Default: as in the study.")] = None,
    gpus: Annotated[
        str | None, typer.Option(help="GPUs per trial, or auto. Default: as in the study.")
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(help="Study to learn from: a folder, or a name in --storage or MLflow; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted study.")] = False,
    address: Address = None,
    cache: Cache = None,
) -> None:
    """Search a bundle's settings; log all trials to MLflow, keep the best bundle."""
    from qcanet_monai.cli.study_display import StudyDisplay
    from qcanet_monai.tuning.study_file import read_study, study_path

    read_study(study_path(study))  # a mistake is told before the imports below, which take seconds
    from qcanet_monai.registry.store import store_uri
    from qcanet_monai.registry.studies import address as page_address
    from qcanet_monai.tuning.tune import run_study

    with StudyDisplay() as live:
        outcome = run_study(
            study,
            storage=storage,
            data=data,
            tracking_uri=tracking_uri,
            name=name,
            address=address,
            cache=cache,
            resume=resume,
            warm_start=warm_start or (),
            trials=trials,
            hours=hours,
            epochs=epochs,
            cpus=cpus,
            gpus=gpus,
            watch=live.watch,
            stage=live.stage,
        )
    live.summary(outcome)
    console.print(f"page: {page_address(store_uri(tracking_uri), outcome.page)}", soft_wrap=True)
    console.print(f"bundle: {outcome.bundle}; plots: {outcome.folder / 'plots.html'}")
    store = f" --tracking-uri {shlex.quote(tracking_uri)}" if tracking_uri else ""
    promote = f"qcanet promote {outcome.bundle_name} --study {shlex.quote(outcome.folder.name)}{store}"
    console.print(f"next: {promote}, or qcanet ui{store}", soft_wrap=True)
