"""Weights files: read safely, loaded into the network they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcanet_monai.errors import ModelError


def read_state(path: str | Path) -> dict[str, Any]:
    """Read a ``model.pt``; nothing of the file is executed.

    Returns
    -------
    dict
        The network's ``state_dict``, on the CPU.

    Raises
    ------
    ModelError
        If the file is missing or is no weights file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"expected weights in {path}, found no such file: train the bundle or give another")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise ModelError(
            f"{path} is no weights file that can be read safely: expected a state_dict"
        ) from error


def apply_state(network: nn.Module, state: Mapping[str, Any], path: str | Path) -> nn.Module:
    """Load a ``state_dict`` into a network; `path` names its file in an error.

    Raises
    ------
    ModelError
        If it belongs to another architecture.
    """
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} holds weights of another architecture than the bundle's configuration: set depth, "
            "channels and kernel_size in configs/inference.yaml to those it was trained with"
        ) from error
    return network


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a ``model.pt`` into a network.

    Raises
    ------
    ModelError
        If the file is missing, is no weights file, or belongs to another architecture.
    """
    return apply_state(network, read_state(path), path)


def start_from(network: nn.Module, path: str | Path | None) -> nn.Module:
    """Return the network with the weights of a ``model.pt``, or as it is if `path` is None."""
    return network if path is None else load_weights(network, path)
