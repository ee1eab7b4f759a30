"""MONAI transforms between instance labels, loss targets and network outputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch import Tensor

from qcanet_monai.core.crop import crop_or_pad
from qcanet_monai.core.instances.instances import Instances
from qcanet_monai.core.resample import Shape
from qcanet_monai.nn.metatensor import spacing_of, with_values


class Targetd(MapTransform):
    """Convert instance labels (1, Z, Y, X) to a loss target (C, Z, Y, X).

    Parameters
    ----------
    keys
        Keys of the labels.
    target
        Function of ``core.targets``; receives the item's ``annotation`` if present.
    """

    def __init__(self, keys: KeysCollection, target: Callable[..., NDArray[np.float32]]) -> None:
        super().__init__(keys)
        self.target = target

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Convert every key."""
        out = dict(data)
        told = {"annotation": out["annotation"]} if "annotation" in out else {}
        for key in self.key_iterator(out):
            labels: MetaTensor = out[key]
            values = self.target(np.asarray(labels[0]), spacing=spacing_of(labels), **told)
            out[key] = with_values(labels, torch.from_numpy(values))
        return out


class CentreWindowd(MapTransform):
    """Crop or zero-pad (C, Z, Y, X) about the centre, see ``core.crop``.

    Parameters
    ----------
    keys
        Keys to crop.
    size
        Voxels (Z, Y, X); None leaves the input unchanged.
    """

    def __init__(self, keys: KeysCollection, size: Sequence[int] | None) -> None:
        super().__init__(keys)
        self.size: Shape | None = None
        if size is not None:
            z, y, x = size
            self.size = (z, y, x)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every key."""
        out = dict(data)
        if self.size is None:
            return out
        for key in self.key_iterator(out):
            image: MetaTensor = out[key]
            cut = np.stack([crop_or_pad(np.asarray(channel), self.size) for channel in image])
            out[key] = with_values(image, torch.from_numpy(cut))
        return out


class Objectsd(MapTransform):
    """Convert network outputs (C, Z, Y, X) to int32 labels (1, Z, Y, X).

    Parameters
    ----------
    keys
        Keys of the outputs.
    activation
        Activation of the outputs, see ``nn.activations``.
    to_instances
        Function from activated outputs (C, Z, Y, X) and spacing to `Instances`.
    image_key
        Key of the network's input, which has the grid of the outputs.
    """

    def __init__(
        self,
        keys: KeysCollection,
        activation: Callable[[Tensor], Tensor],
        to_instances: Callable[..., Instances],
        image_key: str = "image",
    ) -> None:
        super().__init__(keys)
        self.activation, self.to_instances, self.image_key = activation, to_instances, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Convert every key."""
        out = dict(data)
        image: MetaTensor = out[self.image_key]
        for key in self.key_iterator(out):
            logits = torch.as_tensor(out[key]).float()
            outputs = self.activation(logits[None])[0].cpu().numpy()
            labels = self.to_instances(outputs, spacing=spacing_of(image)).labels
            out[key] = with_values(image, torch.from_numpy(labels[None].astype(np.int32)))
        return out
