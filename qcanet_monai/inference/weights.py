"""Weights files: safe reading, and loading into a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qcanet_monai.errors import ModelError


def read_state(path: str | Path) -> dict[str, Any]:
    """Read the ``state_dict`` of a ``model.pt`` to the CPU, without executing code.

    Raises
    ------
    ModelError
        If the file is missing or is not a weights file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"expected weights in {path}, found no such file: train the bundle or give another")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many types for a foreign file
        raise ModelError(
            f"expected a state_dict that can be read safely, got {path}: give a model.pt from training"
        ) from error


def apply_state(network: nn.Module, state: Mapping[str, Any], path: str | Path) -> nn.Module:
    """Load a ``state_dict`` into a network; `path` names its file in error messages.

    Raises
    ------
    ModelError
        If the weights belong to another architecture.
    """
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} holds weights of another architecture than the bundle's configuration: set depth, "
            "channels and kernel_size in configs/inference.yaml to the values used in training"
        ) from error
    return network


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a ``model.pt`` into a network; raise as `read_state` and `apply_state` do."""
    return apply_state(network, read_state(path), path)


def start_from(network: nn.Module, path: str | Path | None) -> nn.Module:
    """Return the network, with the weights of a ``model.pt`` unless `path` is None."""
    return network if path is None else load_weights(network, path)
