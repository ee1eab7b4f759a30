"""Predictors of a bundle's networks, built from the inference configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from qcanet_monai.errors import ModelError, QCANetError, root_cause
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.inference.weights import apply_state

_OPTIONS = (
    *("inferer", "precision", "activation", "threshold", "min_size"),
    *("isotropic_spacing_um", "max_diameter_voxels", "window", "max_voxels"),
)


@contextmanager
def usable(config: Path) -> Iterator[None]:
    """Raise any error of a configuration as a `ModelError` that names the file."""
    try:
        yield
    except Exception as error:  # a configuration can run any code
        root = root_cause(error)
        if isinstance(root, QCANetError):
            raise root from None
        reason = (str(root) or type(root).__name__).splitlines()[0]
        raise ModelError(f"{config} cannot be used: {reason}") from error


def build_predictor(parser: ConfigParser, at: str, state: Mapping[str, Any], weights: Path) -> Predictor:
    """Build a network with its preprocessing and options.

    Parameters
    ----------
    parser
        Inference configuration.
    at
        Prefix of the network's keys: empty, or ``networks#NAME#``.
    state, weights
        Network's ``state_dict``, and its file.

    Raises
    ------
    ModelError
        If the weights do not fit the network.
    """
    network = apply_state(parser.get_parsed_content(f"{at}network_def"), state, weights)
    options = {key: parser.get_parsed_content(at + key) for key in _OPTIONS if at + key in parser}
    return Predictor(
        network,
        preprocessing=parser.get_parsed_content(f"{at}image_preprocessing"),
        device=parser.get_parsed_content("device"),
        source=str(weights.parents[1]),
        **options,
    )
