"""MONAI transforms between instance labels and what networks learn and say."""

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
    """Instance labels (1, Z, Y, X) to what a loss reads (C, Z, Y, X).

    Parameters
    ----------
    keys
        Keys of the labels.
    target
        A function of ``core.targets``; it is told the item's ``annotation``, where it has one.
    """

    def __init__(self, keys: KeysCollection, target: Callable[..., NDArray[np.float32]]) -> None:
        super().__init__(keys)
        self.target = target

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace every key."""
        out = dict(data)
        told = {"annotation": out["annotation"]} if "annotation" in out else {}
        for key in self.key_iterator(out):
            labels: MetaTensor = out[key]
            values = self.target(np.asarray(labels[0]), spacing=spacing_of(labels), **told)
            out[key] = with_values(labels, torch.from_numpy(values))
        return out


class CentreWindowd(MapTransform):
    """Cut or pad (C, Z, Y, X) about the middle, see ``core.crop``; padding is 0.

    Parameters
    ----------
    keys
        Keys to cut.
    size
        Voxels (Z, Y, X); as they come if None.
    """

    def __init__(self, keys: KeysCollection, size: Sequence[int] | None) -> None:
        super().__init__(keys)
        self.size: Shape | None = None
        if size is not None:
            z, y, x = size
            self.size = (z, y, x)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Cut every key."""
        out = dict(data)
        if self.size is None:
            return out
        for key in self.key_iterator(out):
            image: MetaTensor = out[key]
            cut = np.stack([crop_or_pad(np.asarray(channel), self.size) for channel in image])
            out[key] = with_values(image, torch.from_numpy(cut))
        return out


class Objectsd(MapTransform):
    """A network's outputs (C, Z, Y, X) to instance labels (1, Z, Y, X).

    Parameters
    ----------
    keys
        Keys of the outputs.
    activation
        See ``nn.activations``.
    to_instances
        What makes objects of the activated outputs.
    image_key
        The image that the network saw, whose grid they are on.
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
        """Replace every key."""
        out = dict(data)
        image: MetaTensor = out[self.image_key]
        for key in self.key_iterator(out):
            logits = torch.as_tensor(out[key]).float()
            outputs = self.activation(logits[None])[0].cpu().numpy()
            labels = self.to_instances(outputs, spacing=spacing_of(image)).labels
            out[key] = with_values(image, torch.from_numpy(labels[None].astype(np.int32)))
        return out
