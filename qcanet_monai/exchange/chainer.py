"""Import of the original authors' Chainer weights (``.npz``) as a bundle."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qcanet_monai.bundle.bundle import SHIPPED
from qcanet_monai.errors import ModelError, OutputError
from qcanet_monai.io import output_folder
from qcanet_monai.nn.unet import UNet3D
from qcanet_monai.training.export import export_bundle, set_knobs

_CHAINER_EPS = 2e-5  # added to the variance by Chainer's batch norms
_TORCH_EPS = torch.nn.BatchNorm3d(1).eps
_DEPTHS = range(1, 9)  # a ninth pooling would need edges of 512 voxels
_CONVOLUTION = {"W": "weight", "b": "bias"}  # both cross-correlate; transposed ones store inputs first
_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "avg_mean": "running_mean",
    "avg_var": "running_var",
    "N": "num_batches_tracked",
}
# as in the authors' scripts: argmax, all components and labels kept, fp32
_INFERENCE = {"threshold": 0.5, "min_size": 1, "min_relative_intensity": 0, "precision": "fp32"}


class Architecture(NamedTuple):
    """Parameters of a `UNet3D`, derived from the shapes in a file."""

    depth: int
    channels: int
    kernel_size: int


def import_chainer(path: str | Path, output: str | Path, *, net: str) -> Architecture:
    """Convert the authors' NSN or NDN, saved by Chainer's ``save_npz``, to a bundle.

    The bundle follows the paper: min-max scaling, cubic voxels of the image's finest spacing, argmax over
    classes, fp32, and no filter of components or labels. Batch norms use the statistics in the file, as in
    Chainer under ``using_config("train", False)``. The authors' scripts do not set this option: Chainer then
    uses the statistics of each patch, a bundle does not.

    Parameters
    ----------
    path
        The ``.npz`` file; read without unpickling.
    output
        New or empty folder for the bundle; filled only if the import succeeds.
    net
        "nsn" or "ndn".

    Raises
    ------
    ModelError
        If `net` is unknown, or the file does not hold exactly one such network with two classes.
    OutputError
        If the folder holds files or cannot be written to.
    """
    if net not in ("nsn", "ndn"):
        raise ModelError(f"expected a network nsn or ndn, got {net!r}")
    path, output = Path(path), Path(output).resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"expected a new or empty folder, {output} holds files: choose another")
    architecture, state = read_chainer(path)
    output_folder(output.parent)
    temporary = output.with_name(f".{output.name}-{secrets.token_hex(4)}")
    try:
        knobs = {
            **architecture._asdict(),
            "normalisation": "min_max",
            "max_diameter_voxels": None,
            "isotropic_spacing_um": None,
        }
        export_bundle(SHIPPED / net, temporary, knobs)
        _set_inference(temporary / "configs" / "inference.yaml")
        _describe(temporary / "configs" / "metadata.json", path, architecture.depth)
        weights = io.BytesIO()  # torch raises no OSError when the disk is full
        torch.save(state, weights)
        (temporary / "models" / "model.pt").write_bytes(weights.getbuffer())
        if output.exists():
            output.rmdir()
        temporary.replace(output)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return architecture


def read_chainer(path: str | Path) -> tuple[Architecture, dict[str, Tensor]]:
    """Read a Chainer file as the ``state_dict`` of a `UNet3D` with two classes.

    Parameters
    ----------
    path
        An ``.npz`` file with the arrays of `names`: float32, except the integer ``N``.

    Returns
    -------
    tuple
        Parameters and ``state_dict`` of the network, on the CPU.

    Raises
    ------
    ModelError
        If the file is not an ``.npz`` archive; if an array is missing, unexpected, of another shape or type,
        or not finite; or if a variance is negative.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"expected weights in {path}, found no such file: give the authors' .npz file")
    try:
        archive = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises many kinds of error for other files
        raise _no_archive(path) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise _no_archive(path)
    with archive:
        # the depth that most names fit, so that an error lists the odd ones
        depth = min(_DEPTHS, key=lambda depth: len(names(depth).keys() ^ set(archive.files)))
        _check_names(path, archive.files, names(depth))
        architecture = _architecture(path, depth, _array(path, archive, "c0/W").shape)
        with torch.device("meta"):  # shapes only
            expected = UNet3D(in_channels=1, out_channels=2, **architecture._asdict()).state_dict()
        state = {
            name: _tensor(path, key, _array(path, archive, key), expected[name])
            for key, name in names(depth).items()
        }
    return architecture, state


def names(depth: int) -> dict[str, str]:
    """Map array names in the authors' files to ``state_dict`` names of a `UNet3D`.

    `depth` is the number of poolings. The encoder has convolutions ``c0`` to ``c(2 depth + 1)``. The decoder
    has one transposed and two other convolutions per level, ``dc0`` to ``dc(3 depth - 1)``, and the head. A
    batch norm has the number of its convolution.
    """
    modules = {f"dc{3 * depth}": "head"}
    for level in range(depth + 1):
        for second in (0, 1):
            number, place = 2 * level + second, 3 * second
            modules[f"c{number}"] = f"encoder.{level}.{place}"
            modules[f"bnc{number}"] = f"encoder.{level}.{place + 1}"
    for position in range(depth):
        modules[f"dc{3 * position}"] = f"up.{position}"
        for second in (0, 1):
            number, place = 3 * position + 1 + second, 3 * second
            modules[f"dc{number}"] = f"decoder.{position}.{place}"
            modules[f"bndc{number}"] = f"decoder.{position}.{place + 1}"
    return {
        f"{link}/{ours}": f"{module}.{torchs}"
        for link, module in modules.items()
        for ours, torchs in (_NORM if link.startswith("bn") else _CONVOLUTION).items()
    }


def _no_archive(path: Path) -> ModelError:
    return ModelError(f"expected an .npz archive of Chainer's save_npz, got {path}")


def _check_names(path: Path, found: Sequence[str], expected: Collection[str]) -> None:
    missing = sorted(set(expected) - set(found))
    extra = [key for place, key in enumerate(found) if key not in expected or key in found[:place]]
    if missing or extra:
        told = [f"{what} {_some(keys)}" for what, keys in (("lacks", missing), ("also has", extra)) if keys]
        raise ModelError(
            f"expected the {len(expected)} arrays of one network of QCANet in {path}; it {' and '.join(told)}"
        )


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(map(repr, keys[:3]))
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"


def _array(path: Path, archive: Any, key: str) -> NDArray[Any]:
    try:
        array = archive[key]
    except Exception as error:  # zipfile, its codecs and numpy raise many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: {key} cannot be read as an array of numbers: {reason}") from error
    if not isinstance(array, np.ndarray):  # numpy returns other content as bytes
        raise ModelError(f"{path}: expected an array as {key}, got something else")
    return array


def _architecture(path: Path, depth: int, shape: Sequence[int]) -> Architecture:
    if len(shape) != 5 or shape[0] < 1 or shape[2] % 2 == 0:
        raise ModelError(
            f"{path}: expected c0/W of shape (channels, 1, k, k, k), k odd, got {tuple(shape)}: only 3-D "
            "networks of QCANet can be imported"
        )
    return Architecture(depth, shape[0], shape[2])


def _tensor(path: Path, key: str, array: NDArray[Any], expected: Tensor) -> Tensor:
    whole = key.endswith("/N")
    problem = ""
    if array.shape != tuple(expected.shape):
        problem = f"shape {tuple(expected.shape)}, got {array.shape}"
    elif not np.issubdtype(array.dtype, np.integer) if whole else array.dtype != np.float32:
        problem = f"{'an integer' if whole else 'float32'}, got {array.dtype}"
    elif not np.isfinite(array).all():
        problem = "finite values, got NaN or infinity"
    elif key.endswith("/avg_var") and (array < 0).any():
        problem = f"a variance of 0 or more, got {array.min():g}"
    if problem:
        raise ModelError(f"{path}: expected {key} of {problem}")
    if key.endswith("/avg_var"):
        # torch adds less to a variance than Chainer: make up the difference
        array = array + (_CHAINER_EPS - _TORCH_EPS)
    return torch.tensor(array, dtype=expected.dtype)


def _set_inference(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    knobs = {key: value for key, value in _INFERENCE.items() if f"\n{key}:" in text}  # NDN lacks some
    path.write_text(set_knobs(text, knobs, path), encoding="utf-8")


def _describe(path: Path, source: Path, depth: int) -> None:
    """Write the weights' origin to the metadata; remove the shipped scores."""
    metadata = json.loads(path.read_text(encoding="utf-8"))
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    for key in ("authors", "copyright"):
        metadata[key] = f"of the configuration: {metadata[key]}; of the weights: those who trained them"
    metadata["data_source"] = f"not known: the weights are those of {source.name}, sha256 {digest}"
    metadata.pop("eval_metrics", None)
    shapes = metadata["network_data_format"]
    for volume in (shapes["inputs"]["image"], shapes["outputs"]["pred"]):
        volume["spatial_shape"] = [f"{2**depth}*n"] * 3
    path.write_text(json.dumps(metadata, indent=4) + "\n", encoding="utf-8")
