"""`qcanet export`."""

from __future__ import annotations

from typing import Annotated

import typer

from qcanet_monai.cli.options import Out, TrackingUri, console


def export(
    bundle: Annotated[str, typer.Argument(help="nsn, ndn, a U-Net bundle's folder or models:/NAME@ALIAS.")],
    out: Out,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="torchscript, onnx or bioimageio; repeatable; all by default."),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Export a network as TorchScript, ONNX and bioimage.io, and check each file."""
    from qcanet_monai.exchange.export import SUFFIXES, export_network

    files = export_network(bundle, out, formats=formats or tuple(SUFFIXES), tracking_uri=tracking_uri)
    for name, path in files.items():
        console.print(f"{name}: {path}", markup=False, soft_wrap=True)
