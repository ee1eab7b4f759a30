"""`qcanet adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import Experiment, Out, Spacing, TrackingUri, console, progress


def adapt(
    inputs: Annotated[list[Path], typer.Argument(help="Unlabelled images of one microscope, or folders.")],
    out: Out,
    spacing: Spacing = None,
    steps: Annotated[int, typer.Option(help="Training steps per network.")] = 120,
    n_matches: Annotated[int, typer.Option(help="Simulated matches per image, at least 30.")] = 640,
    nsn: Annotated[str, typer.Option(help="Initial NSN: bundled, FOLDER or models:/NAME@ALIAS.")] = "bundled",
    ndn: Annotated[str, typer.Option(help="Initial NDN: same choices.")] = "bundled",
    channel: Annotated[int | None, typer.Option(help="Channel of multi-channel files, from 0.")] = None,
    frame: Annotated[int | None, typer.Option(help="Time point of time-lapse files, from 0.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; one per core by default.")] = None,
    experiment: Experiment = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Adapt NSN and NDN to a microscope from unlabelled images."""
    from qcanet_monai.io import read_volume
    from qcanet_monai.io.names import list_images

    images = list_images(inputs)
    volumes = [read_volume(path, spacing=spacing, channel=channel, frame=frame) for path in images]
    from qcanet_monai.adaptation.abc_inference import rounds_of
    from qcanet_monai.adaptation.adapt import adapt as run
    from qcanet_monai.adaptation.estimates import rows_of

    result = run(
        volumes,
        out,
        nsn=nsn,
        ndn=ndn,
        steps=steps,
        rounds=rounds_of(n_matches),
        seed=seed,
        workers=workers,
        tracking_uri=tracking_uri,
        stage=progress,
    )
    for source, estimate in result.estimates.items():
        console.print(source, markup=False)
        for name, value in rows_of(estimate):
            console.print(f"  {name}: {value}")
    for name, scores in result.scores.items():
        console.print(
            f"{name.upper()} on synthetic matches: {scores.metric} {scores.before:.3f} before, "
            f"{scores.after:.3f} after"
        )
    before, after = result.agreements["initial"], result.agreements["adapted"]
    console.print(
        f"NSN on the images: mirrored, it agrees by {before.mirrored:.3f}, then {after.mirrored:.3f}; "
        f"where it was sure, it agrees by {after.sure:.3f}"
    )
    if not result.kept:
        console.print("the adapted NSN is worse by this measure: the initial networks are kept")
    if experiment:
        from qcanet_monai.registry.data import describe_images
        from qcanet_monai.registry.results import log_results

        measured: dict[str, float] = {}
        for name, found in result.scores.items():
            measured |= {f"{name}_before": found.before, f"{name}_after": found.after}
        files = [path for path in sorted(out.iterdir()) if path.suffix in (".png", ".csv", ".json", ".yaml")]
        page = log_results(
            tracking_uri,
            experiment,
            out.name,
            source="qcanet adapt",
            params={"steps": steps, "n_matches": n_matches, "nsn": nsn, "ndn": ndn, "seed": seed},
            metrics=measured,
            data=[describe_images(images, "adaptation")],
            files=files,
        )
        console.print(f"logged: {page}", soft_wrap=True)
    console.print(
        f"check {out}/twins.png, then run: qcanet segment … --nsn {out}/nsn --ndn {out}/ndn", markup=False
    )
