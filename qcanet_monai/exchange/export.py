"""A bundle's network for other programs: TorchScript, ONNX, a model package as bioimage.io has them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import OutputError
from qcanet_monai.exchange.model_package import write_package
from qcanet_monai.exchange.network_files import (
    metadata_of,
    unet_of,
    write_onnx,
    write_torchscript,
)
from qcanet_monai.io import output_folder, replacing
from qcanet_monai.optional import need

SUFFIXES = {"torchscript": ".ts", "onnx": ".onnx", "bioimageio": ".bioimageio.zip"}
_NEEDED: dict[str, tuple[str, ...]] = {
    "torchscript": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "bioimageio": ("bioimageio.core",),
}


def export_network(
    reference: str | Path,
    output_dir: str | Path,
    *,
    formats: Sequence[str] = tuple(SUFFIXES),
    tracking_uri: str | None = None,
) -> dict[str, Path]:
    """Write a bundle's network for programs that know nothing of bundles; all files are checked first.

    Parameters
    ----------
    reference
        A shipped bundle's name, a bundle's folder, ``models:/NAME@ALIAS`` or
        ``models:/NAME/VERSION``.
    output_dir
        Where ``NAME.ts``, ``NAME.onnx`` and ``NAME.bioimageio.zip`` go, NAME being the metadata's.
    formats
        Some of "torchscript", "onnx" and "bioimageio"; the package of the latter holds TorchScript, and ONNX
        if that is asked for too.
    tracking_uri
        The registry's store, where the reference names a registered version.

    Returns
    -------
    dict of str to Path
        The files by format.

    Raises
    ------
    ModelError
        If the reference or its network cannot be used, or a file does not give what the network does;
        nothing is written then.
    OutputError
        If a format is unknown, an optional package is missing, or the system refuses to write.
    """
    for name in formats:
        if name not in SUFFIXES:
            raise OutputError(f"expected a format of {', '.join(SUFFIXES)}, got {name!r}")
        need(*_NEEDED[name])
    bundle = Bundle.find(reference, tracking_uri=tracking_uri)
    predictor = bundle.predictor(device="cpu")
    network = unet_of(predictor)
    stem = re.sub(r"\W+", "-", metadata_of(bundle)["name"].lower()).strip("-")
    with TemporaryDirectory(prefix="qcanet-") as scratch:
        made = {name: Path(scratch) / f"{stem}{suffix}" for name, suffix in SUFFIXES.items()}
        if set(formats) - {"onnx"}:
            write_torchscript(network, made["torchscript"])
        if "onnx" in formats:
            write_onnx(network, made["onnx"])
        if "bioimageio" in formats:
            weights = {name: path for name, path in made.items() if path.exists()}
            write_package(bundle, predictor, weights, made["bioimageio"])
        folder = output_folder(output_dir)
        for name in formats:
            with replacing(folder / made[name].name) as temporary:
                shutil.copyfile(made[name], temporary)
    return {name: folder / made[name].name for name in formats}
