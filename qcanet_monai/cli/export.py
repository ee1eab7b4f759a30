"""`qcanet export`."""

from __future__ import annotations

from typing import Annotated

import typer

from qcanet_monai.cli.options import Out, TrackingUri, console


def export(
    bundle: Annotated[str, typer.Argument(help="nsn, ndn, a U-Net's folder or models:/NAME@ALIAS.")],
    out: Out,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="torchscript, onnx or bioimageio; may be given repeatedly; all by default."
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write a bundle's network as TorchScript, ONNX and a bioimage.io package, each one checked."""
    from qcanet_monai.exchange.export import SUFFIXES, export_network

    files = export_network(bundle, out, formats=formats or tuple(SUFFIXES), tracking_uri=tracking_uri)
    for name, path in files.items():
        console.print(f"{name}: {path}", markup=False, soft_wrap=True)
