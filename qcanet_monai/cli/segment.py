"""`qcanet segment`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.lean import import_monai
from qcanet_monai.cli.options import Out, Spacing, TrackingUri, console, progress


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images (TIFF, NIfTI, OME-Zarr) or folders of them.")],
    out: Out,
    spacing: Spacing = None,
    nsn: Annotated[
        str, typer.Option(help="NSN: `bundled`, a bundle's folder or models:/NAME@ALIAS.")
    ] = "bundled",
    ndn: Annotated[
        str, typer.Option(help="NDN: likewise; `none` for connected components instead of markers.")
    ] = "bundled",
    channel: Annotated[int | None, typer.Option(help="Channel to take, from 0.")] = None,
    frame: Annotated[int | None, typer.Option(help="Time point to take, from 0; all by default.")] = None,
    interval: Annotated[
        float | None, typer.Option(help="Minutes between frames, where the file does not state it.", min=0)
    ] = None,
    recover_border: Annotated[
        bool, typer.Option("--recover-border", help="Keep nuclei without a centre that the border cuts.")
    ] = False,
    grid: Annotated[
        float | None, typer.Option(help="Voxel edge in µm for the networks; the finest spacing by default.")
    ] = None,
    flips: Annotated[
        bool | None, typer.Option("--flips/--no-flips", help="Average over mirror images: 4 times as slow.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16, fp16 or fp32.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Images at the same time; one a core, up to 4, or one per GPU or CPU of a cluster.",
            min=1,
        ),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, HOST:PORT or auto, whose nodes see images and OUT.")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Find, label and measure the nuclei of images."""
    from qcanet_monai.io.names import frames_of, list_images

    files = list_images(inputs)
    images = frames_of(files) if frame is None else files
    import_monai()
    from qcanet_monai.workflows.batch import segment_files
    from qcanet_monai.workflows.segment import Segmenter

    segmenter = Segmenter(
        nsn,
        ndn,
        recover_border=recover_border,
        grid=grid,
        flips=flips,
        precision=precision,
        tracking_uri=tracking_uri,
    )
    with progress("segmenting", len(images)) as advance:
        result = segment_files(
            images,
            out,
            segmenter,
            spacing=spacing,
            channel=channel,
            frame=frame,
            interval_min=interval,
            workers=workers,
            address=address,
            progress=lambda _path: advance(),
        )
    for path, count in result.counts.items():
        console.print(f"{path}: {count} nuclei")
    if result.kept:
        console.print(f"{result.kept} of {len(images)} were done before and stay as they are")
    if result.counts:
        console.print(f"labels, overlays, nuclei.csv and timepoints.csv in {out}")
    for reason in result.failures.values():
        print(f"qcanet: {reason}", file=sys.stderr)
    if result.failures:
        raise typer.Exit(2)
