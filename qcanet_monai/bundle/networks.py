"""The networks of a bundle, built from its inference configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from monai.bundle import ConfigParser

from qcanet_monai.errors import ModelError, QCANetError
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.inference.weights import apply_state

if TYPE_CHECKING:
    from qcanet_monai.bundle.bundle import Bundle

_OPTIONS = (
    *("inferer", "precision", "activation", "threshold", "min_size"),
    *("isotropic_spacing_um", "max_diameter_voxels", "window", "max_voxels"),
)


@contextmanager
def usable(config: Path) -> Iterator[None]:
    """Turn any error of reading or building a configuration into one line that names its file."""
    try:
        yield
    except Exception as error:  # a configuration may fail in as many ways as there is code
        chain = [*_causes(error)]  # MONAI wraps what a component raises
        ours = next((cause for cause in chain if isinstance(cause, QCANetError)), None)
        if ours is not None:
            raise ours from None
        reason = (str(chain[-1]) or type(chain[-1]).__name__).splitlines()[0]
        raise ModelError(f"{config} cannot be used: {reason}") from error


def predictors_of(bundle: Bundle, parser: ConfigParser) -> dict[str, Predictor]:
    """Build every network of a bundle with its preprocessing; a single one has an empty name.

    Parameters
    ----------
    bundle
        Where the weights come from.
    parser
        What ``bundle.parser`` gave.

    Raises
    ------
    ModelError
        If the configuration or the weights cannot be used.
    """
    with usable(bundle.folder / "configs/inference.yaml"):
        return {name: _predictor(bundle, parser, name) for name in bundle.networks}


def _predictor(bundle: Bundle, parser: ConfigParser, name: str) -> Predictor:
    at = f"networks#{name}#" if name else ""
    source = bundle.part(name)
    network = parser.get_parsed_content(f"{at}network_def")
    apply_state(network, source.state(name), source.weights)
    options = {key: parser.get_parsed_content(at + key) for key in _OPTIONS if at + key in parser}
    return Predictor(
        network,
        preprocessing=parser.get_parsed_content(f"{at}image_preprocessing"),
        device=parser.get_parsed_content("device"),
        source=str(source.folder),
        **options,
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
