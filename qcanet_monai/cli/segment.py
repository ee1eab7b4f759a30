"""`qcanet segment`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.fast_imports import import_monai
from qcanet_monai.cli.options import Out, Spacing, TrackingUri, console, percentage, progress


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images (TIFF, NIfTI, OME-Zarr) or folders of them.")],
    out: Out,
    spacing: Spacing = None,
    model: Annotated[
        str,
        typer.Option(
            help="Bundle: qcanet, joint, cellseg3d, spindle, a bundle's folder or models:/NAME@ALIAS."
        ),
    ] = "qcanet",
    nsn: Annotated[
        str | None, typer.Option(help="Replaces NSN: a bundle's folder or models:/NAME@ALIAS.")
    ] = None,
    ndn: Annotated[
        str | None, typer.Option(help="Replaces NDN; `none` for connected components instead of markers.")
    ] = None,
    channel: Annotated[int | None, typer.Option(help="Channel to take, from 0.")] = None,
    frame: Annotated[int | None, typer.Option(help="Time point to take, from 0; all by default.")] = None,
    interval_min: Annotated[
        float | None, typer.Option(help="Minutes between frames, where the file does not state it.", min=0)
    ] = None,
    recover_border: Annotated[
        bool, typer.Option("--recover-border", help="Keep nuclei without a centre that the border cuts.")
    ] = False,
    isotropic_spacing_um: Annotated[
        float | None, typer.Option(help="Voxel edge in µm for the networks; the finest spacing by default.")
    ] = None,
    test_time_augmentation: Annotated[
        bool | None,
        typer.Option(
            "--test-time-augmentation/--no-test-time-augmentation",
            help="Average over mirror images: 4 times as slow.",
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16, fp16 or fp32.")] = None,
    n_samples: Annotated[
        int,
        typer.Option(help="Predictions with dropout that measure each object's uncertainty.", min=0),
    ] = 0,
    drop_uncertain: Annotated[
        str, typer.Option(help="Share of each image's nuclei, the least sure, to leave out, such as 10%.")
    ] = "0%",
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
    from qcanet_monai.segmentation.batch import segment_files
    from qcanet_monai.segmentation.load import load_segmenter

    segmenter = load_segmenter(
        model,
        nsn=nsn,
        ndn=ndn,
        recover_border=recover_border or None,
        isotropic_spacing_um=isotropic_spacing_um,
        test_time_augmentation=test_time_augmentation,
        precision=precision,
        n_samples=n_samples,
        drop_uncertain=percentage(drop_uncertain),
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
            interval_min=interval_min,
            workers=workers,
            address=address,
            progress=lambda _path: advance(),
        )
    for path, count in result.counts.items():
        console.print(f"{path}: {count} objects")
    if result.kept:
        console.print(f"{result.kept} of {len(images)} were done before and stay as they are")
    if result.counts:
        console.print(f"labels, overlays, nuclei.csv and timepoints.csv in {out}")
    for reason in result.failures.values():
        print(f"qcanet: {reason}", file=sys.stderr)
    if result.failures:
        raise typer.Exit(2)
