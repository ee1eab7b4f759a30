"""Export of a bundle's network to TorchScript, ONNX and bioimage.io."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import OutputError
from qcanet_monai.exchange.model_package import write_package
from qcanet_monai.exchange.network_files import metadata_of, unet_of, write_onnx, write_torchscript
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
    """Export a bundle's network for other programs, and check every file.

    Parameters
    ----------
    reference
        Name of a shipped bundle, a bundle's folder, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    output_dir
        Folder for ``NAME.ts``, ``NAME.onnx`` and ``NAME.bioimageio.zip``; NAME comes from the metadata.
    formats
        Any of "torchscript", "onnx" and "bioimageio". The bioimage.io package holds TorchScript weights, and
        ONNX weights if "onnx" is given too.
    tracking_uri
        MLflow store of registered versions.

    Returns
    -------
    dict of str to Path
        Written files by format.

    Raises
    ------
    ModelError
        If the reference or its network cannot be used, or a file does not reproduce the network. No file is
        written then.
    MissingPackageError
        If an optional package is missing.
    OutputError
        If a format is unknown, or the folder cannot be written to.
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
