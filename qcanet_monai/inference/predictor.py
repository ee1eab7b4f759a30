"""A bundle's folder as a function from an image to a probability."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import Tensor, nn

from qcanet_monai.core.instances.labelled import Labelled
from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.resample import Shape, Spacing, resample
from qcanet_monai.errors import ModelError, QCANetError
from qcanet_monai.nn.activations import probabilities
from qcanet_monai.nn.devices import PRECISIONS, channels_last, choose_precision
from qcanet_monai.nn.dropout import dropouts, redraw, with_dropout
from qcanet_monai.nn.fusion import for_inference
from qcanet_monai.nn.metatensor import as_metatensor

_STEP = 32  # edge lengths are padded to a multiple of less


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a ``model.pt`` into a network; nothing of the file is executed.

    Raises
    ------
    ModelError
        If the file is missing, is no weights file, or belongs to another architecture.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"expected weights in {path}, found no such file: train the bundle or give another")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise ModelError(
            f"{path} is no weights file that can be read safely: expected a state_dict"
        ) from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} holds weights of another architecture than the bundle's configuration: set depth, "
            "channels and kernel_size in configs/inference.yaml to those it was trained with"
        ) from error
    return network


def start_from(network: nn.Module, path: str | Path | None) -> nn.Module:
    """The network with the weights of a ``model.pt``, or as it is if None; see `load_weights`."""
    return network if path is None else load_weights(network, path)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


class Predictor:
    """A trained network with its bundle's preprocessing and inferer.

    Only bundles that one trusts may be loaded: their configuration may name any code.

    Parameters
    ----------
    bundle
        Bundle folder with ``configs/inference.yaml`` and ``models/model.pt``.
    overrides
        Values for top-level keys of the configuration.

    Attributes
    ----------
    threshold : float
        Probability from which a voxel counts.
    smallest : int
        Components of fewer voxels are noise.
    grid : float or None
        Edge of the isotropic grid's voxels in µm; the image's finest spacing if None.
    diameter : float or None
        Voxels across that nuclei had at most in training; whoever knows their size gives a coarser grid
        where they are larger. None if the bundle does not say.
    smallest_share : float
        Labels with less than this share of the median label's light are polar bodies or debris; 0 if the
        bundle does not say.
    window : tuple of int or None
        Voxels (Z, Y, X) about the middle that the network sees; all of them if None.
    labelling : callable or None
        What makes objects of the outputs (C, Z, Y, X); None where a bundle gives a probability only.
    labels_on_grid : bool
        Whether objects are made on the network's grid, and not of outputs on the image's own.
    counts : bool
        Whether it tells the number of objects by an integral as well.
    network : nn.Module
        As it was trained; what looks is a copy that does the same with less work.
    precision : str
        What the network runs in: ``bf16``, ``fp16`` or ``fp32``.

    Raises
    ------
    ModelError
        If the folder is no bundle or its weights cannot be used.
    """

    def __init__(self, bundle: str | Path, **overrides: Any) -> None:
        self.bundle = Path(bundle)
        config = self.bundle / "configs" / "inference.yaml"
        if not config.is_file():
            raise ModelError(
                f"expected a bundle with configs/inference.yaml, got {bundle}: "
                "give a bundle's folder or `bundled`"
            )
        try:
            self._configure(config, overrides)
        except Exception as error:  # a configuration may fail in as many ways as there is code
            chain = [*_causes(error)]  # MONAI wraps what a component raises
            ours = next((cause for cause in chain if isinstance(cause, QCANetError)), None)
            if ours is not None:
                raise ours from None
            reason = (str(chain[-1]) or type(chain[-1]).__name__).splitlines()[0]
            raise ModelError(f"{config} cannot be used: {reason}") from error

    def _configure(self, config: Path, overrides: dict[str, Any]) -> None:
        parser = ConfigParser()
        parser.read_config(str(config))
        unknown = set(overrides) - set(parser.get())
        if unknown:
            raise ModelError(f"{config} has no key {', '.join(sorted(unknown))} to override")
        parser.update({"bundle_root": str(self.bundle), **overrides})
        self.device = parser.get_parsed_content("device")
        network = load_weights(parser.get_parsed_content("network_def"), self.bundle / "models" / "model.pt")
        self.network = channels_last(network.eval(), self.device)
        self.precision = choose_precision(self.device, str(parser.get_parsed_content("precision")))
        fast = for_inference(copy.deepcopy(network), PRECISIONS[self.precision])
        self._fast = channels_last(fast, self.device)
        self.preprocessing: Compose = Compose(parser.get_parsed_content("image_preprocessing"))
        self.inferer = parser.get_parsed_content("inferer")

        def optional(name: str, default: Any = None) -> Any:  # not every bundle has every knob
            return parser.get_parsed_content(name) if name in parser else default

        self.threshold, self.smallest = float(optional("threshold", 0.5)), int(optional("smallest", 1))
        self.grid, self.diameter, self.window = (optional(n) for n in ("grid", "diameter", "window"))
        self.smallest_share = float(optional("smallest_share", 0))
        self.activation: Callable[[Tensor], Tensor] = optional("activation", probabilities)
        self.labelling: Callable[..., Labelled] | None = optional("labelling")
        self.max_voxels = int(optional("max_voxels", 1_900_000))
        self.labels_on_grid = bool(optional("labels_on_grid", False))
        self.counts = bool(optional("counts", False))

    def __call__(
        self, image: NDArray[np.generic], *, spacing: Spacing, grid: float | None = None
    ) -> NDArray[np.float32]:
        """Probability (Z, Y, X) of the foreground on the image's own grid.

        Parameters
        ----------
        image
            Grey values (Z, Y, X).
        spacing
            Voxel size (z, y, x) in µm.
        grid
            Edge in µm of the voxels on which the network looks, where the bundle leaves the choice.
        """
        shape: Shape = image.shape
        return resample(self.look(self.prepare(image, spacing=spacing, grid=grid)), shape)

    def prepare(self, image: NDArray[np.generic], *, spacing: Spacing, grid: float | None = None) -> Tensor:
        """The image as the network sees it, (1, 1, Z, Y, X) on the isotropic grid; see `__call__`."""
        loaded = {"image": as_metatensor(image.astype(np.float32), spacing, grid=grid)}
        prepared: Tensor = self.preprocessing(loaded)["image"].as_tensor()
        return prepared[None].to(self.device)

    def prepares_as(self, other: Predictor) -> bool:
        """Whether both networks see the same of an image, on the same grid."""
        mine, others = (
            [(type(step), vars(step)) for step in one.preprocessing.transforms] for one in (self, other)
        )
        return mine == others

    def look(self, prepared: Tensor) -> NDArray[np.float32]:
        """Probability (Z, Y, X) of the foreground on the isotropic grid, of what `prepare` gave."""
        return self.outputs(prepared)[-1]

    @torch.inference_mode()
    def outputs(self, prepared: Tensor) -> NDArray[np.float32]:
        """All that the network says (C, Z, Y, X), activated, of what `prepare` gave."""
        found: NDArray[np.float32] = self.activation(self.inferer(prepared, self._fast))[0].cpu().numpy()
        return found

    def check_dropout(self) -> None:
        """See that the network can be sampled.

        Raises
        ------
        ModelError
            If it has no dropout.
        """
        if not dropouts(self.network):
            raise ModelError(
                f"expected a bundle trained with dropout to tell its uncertainty, {self.bundle} has none: of "
                "those that ship, joint and spindle have"
            )

    def sampled(self, prepared: Tensor, passes: int) -> Iterator[NDArray[np.float32]]:
        """`outputs` with dropout, that many times; the same every time that it is asked for."""
        self.check_dropout()
        network = with_dropout(self.network, 0, self.device)
        padded = math.prod(-(-n // _STEP) * _STEP for n in prepared.shape[2:])
        together = max(1, self.max_voxels // padded)  # a batch that is cut would mix its samples
        for first in range(0, passes, together):
            redraw(network)
            batch = prepared.expand(min(together, passes - first), *prepared.shape[1:])
            with torch.inference_mode():
                found = self.activation(self.inferer(batch, network)).cpu().numpy()
            yield from found

    def mask(self, probability: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Voxels (Z, Y, X) that count, without the components that are noise."""
        above: NDArray[np.bool_] = probability >= self.threshold
        return above if self.smallest <= 1 else self.components(probability) > 0

    def components(self, probability: NDArray[np.floating]) -> NDArray[np.int32]:
        """Label the components (Z, Y, X) in which a probability reaches the threshold; 0 elsewhere."""
        return markers_from_mask(probability >= self.threshold, smallest=self.smallest)
