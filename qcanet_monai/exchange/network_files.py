"""Export of a network to TorchScript and ONNX, with a check of each file."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import ModelError
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io.suppress_logs import suppress_logs
from qcanet_monai.nn.unet import UNet3D

_TOLERANCES = {"torchscript": 1e-5, "onnx": 1e-4}  # relative to the largest logit, at least 1
_EXAMPLE, _CHECKED = (2, 3, 4), ((1, 2, 3), (3, 1, 2))  # edge lengths in multiples of 2**depth


def write_torchscript(network: UNet3D, path: Path) -> None:
    """Write a network in evaluation mode as TorchScript; see `check_torchscript`."""
    with silence():
        torch.jit.save(torch.jit.script(network), str(path))
    check_torchscript(path, network)


def check_torchscript(path: Path, network: UNet3D) -> None:
    """Compare a TorchScript file with its network on volumes of two sizes.

    Raises ModelError if a logit differs by more than 1e-5 of the largest logit.
    """
    with silence():
        exported = torch.jit.load(str(path), map_location="cpu")
    _compare("torchscript", exported, network)


def write_onnx(network: UNet3D, path: Path) -> None:
    """Write a network in evaluation mode as ONNX; see `check_onnx`.

    Input ``image`` and output ``logits`` have a dynamic batch size and dynamic edge lengths, multiples of
    ``2**depth`` voxels.
    """
    multiple = 2**network.depth
    free = {0: Dim("batch"), **{axis: multiple * Dim(f"{name}_blocks") for axis, name in enumerate("zyx", 2)}}
    with silence():
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 1, *(multiple * n for n in _EXAMPLE)),),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=(free,),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # paths of this machine
    importlib.import_module("onnx").save(model, str(path))
    check_onnx(path, network)


def check_onnx(path: Path, network: UNet3D) -> None:
    """Compare an ONNX file, run by onnxruntime, with its network on two sizes.

    Raises ModelError if a logit differs by more than 1e-4 of the largest logit.
    """
    session = importlib.import_module("onnxruntime").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )

    def exported(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])

    _compare("onnx", exported, network)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppress warnings and log messages of the exporters."""
    with (
        suppress_logs("torch.onnx._internal.exporter._registration"),
        warnings.catch_warnings(action="ignore"),
    ):
        yield


def unet_of(predictor: Predictor) -> UNet3D:
    """Return the predictor's network; raise ModelError if it cannot be exported.

    Only a `UNet3D` of one or two outputs without a margin can be exported.
    """
    network = predictor.network
    if not isinstance(network, UNet3D) or network.head.out_channels > 2 or network.margin > 0:
        raise ModelError(
            f"expected a UNet3D of one or two outputs in {predictor.source}, got another network with "
            "unknown input sizes and outputs: use the bundle itself"
        )
    return network


def metadata_of(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's metadata, with defaults for name, description and authors."""
    return {"name": bundle.name, "description": "", "authors": "unknown", **bundle.metadata}


@torch.inference_mode()
def _compare(kind: str, exported: Callable[[Tensor], Tensor], network: UNet3D) -> None:
    random = torch.Generator().manual_seed(0)
    for size in _CHECKED:
        image = torch.rand(1, 1, *(2**network.depth * n for n in size), generator=random)
        wanted, found = network(image), exported(image)
        off = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1))
        if not off <= _TOLERANCES[kind]:  # rejects NaN too
            raise ModelError(
                f"expected {kind} to give the network's logits up to {_TOLERANCES[kind]:g} of the largest, "
                f"got {off:.2g} on {tuple(image.shape)}: use the bundle itself"
            )
