"""Export of a bundle as a model package of bioimage.io."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import ModelError
from qcanet_monai.exchange.network_files import metadata_of, silence, unet_of
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io.suppress_logs import one_line
from qcanet_monai.nn.unet import count_parameters
from qcanet_monai.plot.overlay import stretch
from qcanet_monai.simulator.series import simulate_frame

_SEED, _SHAPE, _EDGE_UM = 12, (40, 64, 64), 1.6  # a simulated embryo of 15 nuclei
_PAPER = "Tokuoka et al. 2020, npj Systems Biology and Applications 6, 32"
_DOI = "10.1038/s41540-020-00152-8"
_TAGS = ["3d", "unet", "nuclei", "fluorescence-light-microscopy", "semantic-segmentation", "pytorch"]
_NORMALISED = {  # formulas of `core.normalise` for an intensity v
    "min_max": "(v - min) / (max - min)",
    "robust": "(v - p1) / (p99.8 - p1), clipped to 0 to 1, where p are percentiles",
    "soft": "asinh(10 x) / asinh(10), clipped to 0 to 1.5, where x = (v - p1) / (p99.8 - p1) and p are "
    "percentiles, without voxels that are exactly 0 where fewer than half are",
}
_README = """# {name}

{description} A 3-D U-Net of {parameters:,} parameters, written by qcanet-monai.

## Before

Not part of the model, and done in `test_input.npy`, a simulated embryo:

- Resample to cubic voxels of {grid}.
- Normalise each grey value v of the volume to {normalisation}.
- Pad to edge lengths that are multiples of {multiple}, mirrored, and cut the output back.

## After

The weights give logits, which this package's postprocessing makes probabilities. Resample them to the \
image's own grid; a voxel counts from {threshold:g} of the last channel, a component from {min_size} voxels.

## Validation

{scores}. Compare with reference masks of your own images before you rely on it.
"""


def write_package(bundle: Bundle, predictor: Predictor, weights: dict[str, Path], path: Path) -> None:
    """Write a bundle as a bioimage.io model package, and check the package.

    The package is a zip with ``rdf.yaml`` (format 0.5). Its input is the preprocessed image, its output the
    probabilities. The test tensors come from a simulated embryo; the cover shows their maxima along z.

    Parameters
    ----------
    bundle, predictor
        Bundle and its network, on the CPU.
    weights
        Weight files by format: "torchscript", and optionally "onnx".
    path
        Zip file to write.

    Raises
    ------
    ModelError
        If bioimage.io's format rejects the bundle's metadata, or `check_package` fails.
    """
    spec = import_module("bioimageio.spec")
    with TemporaryDirectory(prefix="qcanet-") as scratch, silence():
        folder = Path(scratch)
        _write_tensors(predictor, folder)
        (folder / "README.md").write_text(_readme(bundle, predictor), encoding="utf-8")
        try:
            with spec.ValidationContext(log_warnings=False):
                spec.save_bioimageio_package(
                    _description(bundle, predictor, weights, folder), output_path=path
                )
        except ValueError as error:  # pydantic's errors are such
            raise ModelError(f"bioimage.io's format refuses {bundle.folder}: {one_line(error)}") from error
    check_package(path)


def check_package(path: Path) -> None:
    """Validate a model package and run it on its test input and on other sizes.

    Uses bioimageio.core; packages of `write_package` need no network access. Raises ModelError if the package
    is invalid, or if its weights do not reproduce its test output.
    """
    core, spec = import_module("bioimageio.core"), import_module("bioimageio.spec")
    with spec.ValidationContext(log_warnings=False), silence():
        summary = core.test_model(path, devices=["cpu"])
    if summary.status != "passed":
        reason = " ".join(summary.errors[0].msg.split()) if summary.errors else summary.status
        raise ModelError(
            f"expected a package that passes bioimageio.core's test, {path.name} does not: {reason}"
        )


@torch.inference_mode()
def _write_tensors(predictor: Predictor, folder: Path) -> None:
    network = unet_of(predictor)
    multiple = 2**network.depth
    z, y, x = (-(-n // multiple) * multiple for n in _SHAPE)
    image = simulate_frame(_SEED, spacing=(_EDGE_UM, _EDGE_UM, _EDGE_UM), shape=(z, y, x)).image
    edge = predictor.isotropic_spacing_um or _EDGE_UM  # the bundle's own spacing keeps the size
    prepared = predictor.preprocess(image, spacing=(edge, edge, edge))
    logits = network(prepared)
    found = logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()
    for name, tensor in (("test_input", prepared), ("test_output", found)):
        np.save(folder / f"{name}.npy", tensor.contiguous().numpy(), allow_pickle=False)
    seen = [stretch(tensor[0, -1].amax(0).numpy(), (0.0, 1.0)) for tensor in (prepared, found)]
    Image.fromarray(np.hstack(seen)).resize((8 * x, 4 * y)).save(folder / "cover.png")


def _readme(bundle: Bundle, predictor: Predictor) -> str:
    metadata, network = metadata_of(bundle), unet_of(predictor)
    methods = [getattr(step, "method", None) for step in predictor.preprocessing.transforms]
    known = [text for method, text in _NORMALISED.items() if method in methods]
    finest = "the image's finest spacing"
    if predictor.max_diameter_voxels:
        finest += f", coarser where nuclei are wider than {predictor.max_diameter_voxels:g} voxels"
    edge = predictor.isotropic_spacing_um
    scores = ", ".join(f"{name} {value}" for name, value in metadata.get("eval_metrics", {}).items())
    return _README.format(
        name=metadata["name"],
        description=metadata["description"],
        parameters=count_parameters(network),
        grid=f"{edge:g} µm" if edge else finest,
        normalisation=known[0] if known else "what the bundle's own preprocessing gives",
        multiple=2**network.depth,
        threshold=predictor.threshold,
        min_size=predictor.min_size,
        scores=f"Scores after training: {scores}" if scores else "No scores are stated",
    )


def _description(bundle: Bundle, predictor: Predictor, weights: dict[str, Path], folder: Path) -> Any:
    """Describe the files of `folder` for bioimageio.spec, without URLs."""
    model = import_module("bioimageio.spec.model.v0_5").ModelDescr
    metadata, licence = metadata_of(bundle), bundle.folder / "LICENSE"
    terms = licence.read_text(encoding="utf-8") if licence.is_file() else ""
    return model.model_validate(
        {
            "type": "model",
            "format_version": model.implemented_format_version,
            "name": metadata["name"],
            "description": metadata["description"],
            "version": metadata.get("version"),
            "authors": [{"name": metadata["authors"]}],
            "cite": [{"text": _PAPER, "doi": _DOI}],
            "license": "MIT" if terms.startswith("MIT License") else None,
            "attachments": [{"source": licence}] if terms else [],
            "tags": _TAGS,
            "documentation": {"source": folder / "README.md"},
            "covers": [{"source": folder / "cover.png"}],
            "weights": _weights(weights),
            **_tensors(predictor, folder),
        }
    )


def _weights(files: dict[str, Path]) -> dict[str, Any]:
    version = torch.__version__.split("+")[0]
    entries: dict[str, Any] = {"torchscript": {"source": files["torchscript"], "pytorch_version": version}}
    if "onnx" in files:
        opset = import_module("onnx").load(str(files["onnx"])).opset_import[0].version
        entries["onnx"] = {"source": files["onnx"], "opset_version": opset, "parent": "torchscript"}
    return entries


def _tensors(predictor: Predictor, folder: Path) -> dict[str, Any]:
    network = unet_of(predictor)
    multiple, channels = 2**network.depth, ["background", "foreground"][-network.head.out_channels :]
    after = {"id": "softmax", "kwargs": {"axis": "channel"}} if len(channels) > 1 else {"id": "sigmoid"}
    edge = predictor.isotropic_spacing_um
    physical = {"unit": "micrometer", "scale": edge} if edge else {}

    def axes(names: list[str], size: Callable[[str], Any]) -> list[dict[str, Any]]:
        space = [{"type": "space", "id": axis, "size": size(axis), **physical} for axis in "zyx"]
        return [{"type": "batch"}, {"type": "channel", "channel_names": names}, *space]

    image = {
        "id": "image",
        "description": "one channel on cubic voxels, normalised as the README says",
        "axes": axes(["image"], lambda _axis: {"min": multiple, "step": multiple}),
        "test_tensor": {"source": folder / "test_input.npy"},
    }
    probability = {
        "id": "probability",
        "axes": axes(channels, lambda axis: {"tensor_id": "image", "axis_id": axis}),
        "data": {"type": "float32", "range": (0, 1)},
        "postprocessing": [after],
        "test_tensor": {"source": folder / "test_output.npy"},
    }
    return {"inputs": [image], "outputs": [probability]}
