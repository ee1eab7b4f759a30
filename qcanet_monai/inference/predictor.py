"""A trained network with its preprocessing, as a function from an image to probabilities."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from monai.inferers import Inferer
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import Tensor, nn

from qcanet_monai.core.crop import undo
from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.resample import Shape, Spacing, resample
from qcanet_monai.errors import ModelError
from qcanet_monai.nn.activations import foreground
from qcanet_monai.nn.devices import PRECISIONS, channels_last, choose_precision
from qcanet_monai.nn.dropout import dropouts, redraw, with_dropout
from qcanet_monai.nn.fusion import for_inference
from qcanet_monai.nn.metatensor import as_metatensor

_STEP = 32  # edge lengths are padded to a multiple of less


class Predictor:
    """A trained network with its preprocessing and inferer.

    Parameters
    ----------
    network
        The trained network; a copy optimised for inference makes the predictions.
    preprocessing
        Transforms from a loaded volume to the network's input.
    inferer
        How the network goes over a volume of any size.
    activation
        From logits (B, C, Z, Y, X) to outputs (B, C', Z, Y, X), see ``nn.activations``.
    device
        Where the network runs.
    precision
        ``auto``, ``bf16``, ``fp16`` or ``fp32``.
    threshold
        Probability from which a voxel is foreground.
    min_size
        Components of fewer voxels are noise.
    isotropic_spacing_um
        Edge of the network's voxels in µm; the image's finest spacing if None.
    max_diameter_voxels
        Largest nuclear diameter seen in training, in voxels; images with larger nuclei are downsampled.
        None if unknown.
    window
        Voxels (Z, Y, X) about the middle that the network is given; all of them if None.
    max_voxels
        Most voxels that go through the network at once.
    source
        Names the network in an error.

    Attributes
    ----------
    network : nn.Module
        As it was trained.
    precision : str
        ``bf16``, ``fp16`` or ``fp32``.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        preprocessing: Sequence[Callable[..., object]],
        inferer: Inferer,
        activation: Callable[[Tensor], Tensor] = foreground,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        threshold: float = 0.5,
        min_size: int = 1,
        isotropic_spacing_um: float | None = None,
        max_diameter_voxels: float | None = None,
        window: Sequence[int] | None = None,
        max_voxels: int = 1_900_000,
        source: str = "the network",
    ) -> None:
        self.device = torch.device(device)
        self.network = channels_last(network.eval(), self.device)
        self.precision = choose_precision(self.device, precision)
        fast = for_inference(copy.deepcopy(network), PRECISIONS[self.precision])
        self._fast = channels_last(fast, self.device)
        self.preprocessing = Compose(preprocessing)
        self.inferer, self.activation = inferer, activation
        self.threshold, self.min_size = float(threshold), int(min_size)
        self.isotropic_spacing_um, self.max_diameter_voxels = isotropic_spacing_um, max_diameter_voxels
        self.window, self.max_voxels, self.source = window, int(max_voxels), source

    def __call__(
        self, image: NDArray[np.generic], *, spacing: Spacing, isotropic_spacing_um: float | None = None
    ) -> NDArray[np.float32]:
        """Predict the probability of the foreground.

        Parameters
        ----------
        image
            Grey values (Z, Y, X).
        spacing
            Voxel size (z, y, x) in µm.
        isotropic_spacing_um
            Edge of the network's voxels in µm, where the bundle leaves the choice.

        Returns
        -------
        ndarray of float32, shape (Z, Y, X)
            On the image's own grid.
        """
        shape: Shape = image.shape
        inputs = self.preprocess(image, spacing=spacing, isotropic_spacing_um=isotropic_spacing_um)
        return resample(self.predict_foreground(inputs), shape)

    def preprocess(
        self, image: NDArray[np.generic], *, spacing: Spacing, isotropic_spacing_um: float | None = None
    ) -> Tensor:
        """Turn an image into the network's input (1, 1, Z, Y, X); see `__call__`."""
        loaded = {
            "image": as_metatensor(
                image.astype(np.float32), spacing, isotropic_spacing_um=isotropic_spacing_um
            )
        }
        prepared: Tensor = self.preprocessing(loaded)["image"].as_tensor()
        return prepared[None].to(self.device)

    def preprocesses_as(self, other: Predictor) -> bool:
        """Tell whether both networks take the same input from an image."""
        mine, others = (
            [(type(step), vars(step)) for step in one.preprocessing.transforms] for one in (self, other)
        )
        return mine == others

    def predict_foreground(self, inputs: Tensor) -> NDArray[np.float32]:
        """Probability (Z, Y, X) of the foreground, on the network's grid."""
        return self.predict(inputs)[-1]

    @torch.inference_mode()
    def predict(self, inputs: Tensor) -> NDArray[np.float32]:
        """Activated outputs (C, Z, Y, X), on the network's grid."""
        found: NDArray[np.float32] = self.activation(self.inferer(inputs, self._fast))[0].cpu().numpy()
        return found

    def check_dropout(self) -> None:
        """Refuse a network that cannot be sampled.

        Raises
        ------
        ModelError
            If it has no dropout.
        """
        if not dropouts(self.network):
            raise ModelError(
                f"expected a bundle trained with dropout to tell its uncertainty, {self.source} has none: of "
                "those that ship, joint and spindle have"
            )

    def mc_dropout_samples(self, inputs: Tensor, n_samples: int) -> Iterator[NDArray[np.float32]]:
        """Yield `predict` with dropout, `n_samples` times; the same samples in every call."""
        self.check_dropout()
        network = with_dropout(self.network, 0, self.device)
        padded = math.prod(-(-n // _STEP) * _STEP for n in inputs.shape[2:])
        together = max(1, self.max_voxels // padded)  # a batch that is cut would mix its samples
        for first in range(0, n_samples, together):
            redraw(network)
            batch = inputs.expand(min(together, n_samples - first), *inputs.shape[1:])
            with torch.inference_mode():
                found = self.activation(self.inferer(batch, network)).cpu().numpy()
            yield from found

    def to_native(self, outputs: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
        """Bring outputs (C, Z, Y, X) to the image's own grid of `shape` voxels; 0 outside the window."""
        if self.window is not None:
            return np.stack([undo(channel, shape) for channel in outputs])
        if outputs.shape[1:] == shape:
            return outputs
        return np.stack([resample(channel, shape) for channel in outputs])

    def mask(self, probability: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Foreground voxels (Z, Y, X) of a probability, without the components that are noise."""
        above: NDArray[np.bool_] = probability >= self.threshold
        return above if self.min_size <= 1 else markers_from_mask(above, min_size=self.min_size) > 0
