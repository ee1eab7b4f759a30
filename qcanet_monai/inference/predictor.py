"""Trained network with its preprocessing: from an image to probabilities."""

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
from qcanet_monai.errors import InputError, ModelError
from qcanet_monai.nn.activations import foreground
from qcanet_monai.nn.devices import PRECISIONS, channels_last, choose_precision
from qcanet_monai.nn.dropout import dropouts, redraw, with_dropout
from qcanet_monai.nn.fusion import for_inference
from qcanet_monai.nn.metatensor import as_metatensor

_STEP = 32  # inferers pad edge lengths to multiples of less


class Predictor:
    """Trained network with its preprocessing and inferer.

    Parameters
    ----------
    network
        Trained network; a copy optimised for inference makes the predictions.
    preprocessing
        Transforms from a loaded volume to the network's input.
    inferer
        Inferer that applies the network to a volume of any size.
    activation
        Function from logits (B, C, Z, Y, X) to outputs (B, C', Z, Y, X), see ``nn.activations``.
    device
        Device of the network.
    precision
        ``auto``, ``bf16``, ``fp16`` or ``fp32``.
    threshold
        Minimum probability of a foreground voxel.
    min_size
        Minimum size of a foreground component, in voxels; smaller ones are noise.
    isotropic_spacing_um
        Edge of the network's voxels in µm; the image's finest spacing if None.
    max_diameter_voxels
        Largest nuclear diameter seen in training, in voxels; images with larger nuclei are downsampled. None
        if unknown.
    window
        Size (Z, Y, X) in voxels of the central window that the network reads; the whole image if None.
    max_voxels
        Maximum number of voxels in a batch of dropout samples.
    source
        Name of the network in error messages.

    Attributes
    ----------
    network : nn.Module
        Network without the optimisations for inference.
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
        if isotropic_spacing_um is not None and not 0 < isotropic_spacing_um < math.inf:
            raise InputError(
                f"expected an isotropic spacing in µm above 0, got {isotropic_spacing_um:g}: correct it, or "
                "leave it out to have it chosen"
            )
        self.isotropic_spacing_um, self.max_diameter_voxels = isotropic_spacing_um, max_diameter_voxels
        self.window, self.max_voxels, self.source = window, int(max_voxels), source

    def __call__(
        self, image: NDArray[np.generic], *, spacing: Spacing, isotropic_spacing_um: float | None = None
    ) -> NDArray[np.float32]:
        """Predict the foreground probability, float32 (Z, Y, X) on the image's grid.

        Parameters
        ----------
        image
            Intensities (Z, Y, X).
        spacing
            Voxel size (z, y, x) in µm.
        isotropic_spacing_um
            Edge of the network's voxels in µm, if the bundle does not set it.
        """
        shape: Shape = image.shape
        inputs = self.preprocess(image, spacing=spacing, isotropic_spacing_um=isotropic_spacing_um)
        return resample(self.predict_foreground(inputs), shape)

    def preprocess(
        self, image: NDArray[np.generic], *, spacing: Spacing, isotropic_spacing_um: float | None = None
    ) -> Tensor:
        """Convert an image to the network's input (1, 1, Z, Y, X); see `__call__`."""
        loaded = {
            "image": as_metatensor(
                image.astype(np.float32, copy=False), spacing, isotropic_spacing_um=isotropic_spacing_um
            )
        }
        prepared: Tensor = self.preprocessing(loaded)["image"].as_tensor()
        return prepared[None].to(self.device)

    def preprocesses_as(self, other: Predictor) -> bool:
        """Return True if both networks take the same input from an image."""
        mine, others = (
            [(type(step), vars(step)) for step in one.preprocessing.transforms] for one in (self, other)
        )
        return mine == others

    def predict_foreground(self, inputs: Tensor) -> NDArray[np.float32]:
        """Map an input (1, 1, Z, Y, X) to foreground probability (Z, Y, X), same grid."""
        return self.predict(inputs)[-1]

    @torch.inference_mode()
    def predict(self, inputs: Tensor) -> NDArray[np.float32]:
        """Map an input (1, 1, Z, Y, X) to activated outputs (C, Z, Y, X), same grid."""
        found: NDArray[np.float32] = self.activation(self.inferer(inputs, self._fast))[0].cpu().numpy()
        return found

    def check_dropout(self) -> None:
        """Raise a ModelError if the network has no dropout."""
        if not dropouts(self.network):
            raise ModelError(
                f"expected a bundle trained with dropout to estimate uncertainty, got {self.source} without "
                "dropout: use the bundle joint or spindle"
            )

    def mc_dropout_samples(self, inputs: Tensor, n_samples: int) -> Iterator[NDArray[np.float32]]:
        """Yield `n_samples` outputs of `predict` with dropout, the same in every call."""
        self.check_dropout()
        network = with_dropout(self.network, 0, self.device)
        padded = math.prod(-(-n // _STEP) * _STEP for n in inputs.shape[2:])
        together = max(1, self.max_voxels // padded)  # tiles would mix the samples of a batch
        for first in range(0, n_samples, together):
            redraw(network)
            batch = inputs.expand(min(together, n_samples - first), *inputs.shape[1:])
            with torch.inference_mode():
                found = self.activation(self.inferer(batch, network)).cpu().numpy()
            yield from found

    def to_native(self, outputs: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
        """Map outputs (C, Z, Y, X) to the image's grid `shape`; 0 outside the window."""
        if self.window is not None:
            return np.stack([undo(channel, shape) for channel in outputs])
        if outputs.shape[1:] == shape:
            return outputs
        return np.stack([resample(channel, shape) for channel in outputs])

    def mask(self, probability: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Threshold a probability (Z, Y, X) and remove small components."""
        above: NDArray[np.bool_] = probability >= self.threshold
        return above if self.min_size <= 1 else markers_from_mask(above, min_size=self.min_size) > 0
