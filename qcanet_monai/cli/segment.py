"""`qcanet segment`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.fast_imports import import_monai
from qcanet_monai.cli.options import Out, Spacing, TrackingUri, console, percentage, progress


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images (TIFF, NIfTI, OME-Zarr), or folders.")],
    out: Out,
    spacing: Spacing = None,
    model: Annotated[
        str,
        typer.Option(
            help="Bundle: qcanet, joint, cellseg3d, spindle, a bundle's folder or models:/NAME@ALIAS."
        ),
    ] = "qcanet",
    nsn: Annotated[
        str | None, typer.Option(help="Replacement of NSN: a bundle's folder or models:/NAME@ALIAS.")
    ] = None,
    ndn: Annotated[
        str | None, typer.Option(help="Replacement of NDN; none labels connected components instead.")
    ] = None,
    channel: Annotated[int | None, typer.Option(help="Channel of multi-channel files, from 0.")] = None,
    frame: Annotated[int | None, typer.Option(help="Time point, from 0; all by default.")] = None,
    interval_min: Annotated[
        float | None, typer.Option(help="Minutes between frames, for files that do not state it.", min=0)
    ] = None,
    recover_border: Annotated[
        bool, typer.Option("--recover-border", help="Keep nuclei without a centre at the image border.")
    ] = False,
    isotropic_spacing_um: Annotated[
        float | None, typer.Option(help="Voxel edge in µm of the networks' grid; the bundle's by default.")
    ] = None,
    test_time_augmentation: Annotated[
        bool | None,
        typer.Option(
            "--test-time-augmentation/--no-test-time-augmentation",
            help="Average over mirror images, 4 times the run time; the bundle's setting by default.",
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, bf16, fp16 or fp32; the bundle's setting by default.")
    ] = None,
    n_samples: Annotated[
        int, typer.Option(help="Dropout samples that measure each object's uncertainty; 0 for none.", min=0)
    ] = 0,
    drop_uncertain: Annotated[
        str, typer.Option(help="Share of each image's objects to drop, the most uncertain first, e.g. 10%.")
    ] = "0%",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Images at the same time; one per core up to 4, or one per GPU or CPU of a cluster.", min=1
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster, auto or HOST:PORT, that mounts images and OUT; this machine by default."
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Segment images and measure every nucleus; write labels, overlays and tables."""
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
