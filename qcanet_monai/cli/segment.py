"""`qcanet segment`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.fast_imports import import_monai
from qcanet_monai.cli.options import Out, Spacing, TrackingUri, console, percentage, progress


def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Image files (TIFF, NIfTI, OME-Zarr) or folders.")],
    out: Out,
    spacing: Spacing = None,
    model: Annotated[
        str,
        typer.Option(
            help="Model: qcanet, joint, cellseg3d, spindle, a bundle folder, or MLflow's models:/NAME@ALIAS."
        ),
    ] = "qcanet",
    nsn: Annotated[
        str | None, typer.Option(help="Bundle folder or models:/NAME@ALIAS that replaces qcanet's NSN.")
    ] = None,
    ndn: Annotated[
        str | None,
        typer.Option(help="The same for NDN. The word `none` omits NDN: touching nuclei stay one."),
    ] = None,
    channel: Annotated[
        int | None, typer.Option(help="Channel, counted from 0. Required if a file has several.")
    ] = None,
    frame: Annotated[
        int | None, typer.Option(help="Only this time point, counted from 0. Default: all.")
    ] = None,
    interval_min: Annotated[
        float | None,
        typer.Option(help="Minutes between frames, for files that do not state it.", min=0, metavar="MIN"),
    ] = None,
    invert: Annotated[
        bool | None,
        typer.Option("--invert", help="Invert the grey values, for dark nuclei on bright ground."),
    ] = None,
    no_invert: Annotated[bool, typer.Option("--no-invert", hidden=True)] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse images that would be warned of.")] = False,
    recover_border: Annotated[
        bool, typer.Option("--recover-border", help="Keep border nuclei even if no centre is found.")
    ] = False,
    outline: Annotated[
        str | None,
        typer.Option(
            help="Outline of nuclei: tight, half, annotator, or a fraction of their light between 0 and 1. "
            "Default: where the model ends them."
        ),
    ] = None,
    isotropic_spacing_um: Annotated[
        float | None,
        typer.Option(help="Edge in µm of the cubic voxels for the networks. Default: set by the model."),
    ] = None,
    test_time_augmentation: Annotated[
        bool | None,
        typer.Option(
            "--test-time-augmentation",
            help="Average over mirror images in y and x, 4 times slower. Off in the shipped models.",
        ),
    ] = None,
    # hidden: in a column of its own it would shorten the names of all options
    no_test_time_augmentation: Annotated[
        bool, typer.Option("--no-test-time-augmentation", hidden=True)
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="auto, bf16, fp16 or fp32 arithmetic. Default: set by the model.")
    ] = None,
    n_samples: Annotated[
        int,
        typer.Option(
            help="Predictions with dropout, to measure uncertainty; for models with dropout, e.g. joint.",
            min=0,
            metavar="N",
        ),
    ] = 0,
    drop_uncertain: Annotated[
        str,
        typer.Option(
            help="Share of objects to leave out, e.g. 10%, most uncertain first; needs --n-samples."
        ),
    ] = "0%",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Images processed at once. Default: one per core, at most 4; on a cluster, one per GPU.",
            min=1,
            metavar="N",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster, HOST:PORT or auto, that can read images and OUT. Default: this machine."
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Segment images and measure every nucleus; write labels, overlays and tables."""
    from qcanet_monai.io.names import frames_of, list_images, without_results

    files = without_results(list_images(inputs))
    images = frames_of(files, frame)
    import_monai()
    from qcanet_monai.segmentation.batch import segment_files
    from qcanet_monai.segmentation.load import load_segmenter

    segmenter = load_segmenter(
        model,
        nsn=nsn,
        ndn=ndn,
        recover_border=recover_border or None,
        outline=outline,
        isotropic_spacing_um=isotropic_spacing_um,
        test_time_augmentation=False if no_test_time_augmentation else test_time_augmentation,
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
            invert=False if no_invert else invert,
            strict=strict,
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
    for path, doubts in result.doubts.items():
        for doubt in doubts:
            print(f"qcanet: warning: {path}: {doubt}", file=sys.stderr)
    for reason in result.failures.values():
        print(f"qcanet: {reason}", file=sys.stderr)
    if result.failures:
        raise typer.Exit(2)
