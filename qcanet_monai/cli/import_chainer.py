"""`qcanet import-chainer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcanet_monai.cli.options import console


def import_chainer(
    file: Annotated[Path, typer.Argument(help="Weights, such as learned_nsn.npz or learned_ndn.npz.")],
    net: Annotated[str, typer.Option(help="Network of the file: nsn or ndn.")],
    out: Annotated[Path, typer.Option(help="New folder for the bundle.")],
) -> None:
    """Convert Chainer weights of QCANet's authors into a bundle for `segment`."""
    from qcanet_monai.exchange.chainer import import_chainer as run

    found = run(file, out, net=net)
    console.print(
        f"{net.upper()} of {found.depth} poolings, {found.channels} channels and kernels of "
        f"{found.kernel_size}³ voxels in {out}",
        markup=False,
        soft_wrap=True,
    )
    console.print(f"then: qcanet segment … --{net} {out}", markup=False, soft_wrap=True)
