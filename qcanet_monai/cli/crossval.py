"""`qcanet crossval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from qcanet_monai.cli.options import Address, Cache, Storage, TrackingUri, console


def crossval(
    bundle: Annotated[str, typer.Argument(help="Shipped bundle, such as nsn or ndn, or a bundle's folder.")],
    data: Annotated[Path, typer.Option(help="Dataset in BBBC050's layout.")],
    split: Annotated[
        str, typer.Option(help="Held-out unit: embryo, or time for one time point of every embryo.")
    ] = "embryo",
    folds: Annotated[int, typer.Option(help="Number of folds.", min=2)] = 11,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs per training; the overlay's or bundle's by default.", min=1)
    ] = None,
    storage: Storage = "runs/studies",
    overlay: Annotated[
        list[str] | None, typer.Option(help="Overlay configuration of the bundle, such as paper; repeatable.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the bundle's train.yaml; repeatable.")
    ] = None,
    cpus: Annotated[float, typer.Option(help="Cores per training.", min=0.1)] = 2,
    gpus: Annotated[float, typer.Option(help="GPUs per training; fractions share a GPU.", min=0)] = 0,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    cache: Cache = None,
) -> None:
    """Train a bundle once per fold and keep the best; a rerun resumes."""
    from qcanet_monai.cli.study_display import StudyDisplay
    from qcanet_monai.tuning.crossval import cross_validate
    from qcanet_monai.tuning.study import Resources

    with StudyDisplay() as live:
        found = cross_validate(
            bundle,
            data=data,
            storage=storage,
            folds=folds,
            by=split,
            epochs=epochs,
            overlays=overlay or [],
            settings=_settings(setting or []),
            resources=Resources(cpu=cpus, gpu=gpus),
            tracking_uri=tracking_uri,
            address=address,
            cache=cache,
            watch=live.watch,
            stage=live.stage,
        )
    table = Table("fold", found.outcome.objective, title=f"{bundle}, by {split}")
    for fold, value in found.values.items():
        table.add_row(str(fold), f"{value:.3f}")
    table.add_row("mean (SD)", f"{found.mean:.3f} ({found.sd:.3f})")
    console.print(table)
    console.print(f"the best fold's bundle: {found.outcome.bundle}; tables: {found.outcome.folder}")
    console.print(f"next: qcanet promote {found.outcome.bundle_name} --study {found.outcome.folder.name}")


def _settings(given: list[str]) -> dict[str, object]:
    import yaml

    from qcanet_monai.errors import StudyError

    found: dict[str, object] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise StudyError(f"expected --set KEY=VALUE, got {text!r}: for example --set channels=4")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise StudyError(f"expected a YAML value in --set {text!r}: quote it") from error
    return found
