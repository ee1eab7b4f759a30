"""MONAI inferers: whole volume where it fits, in the device's precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, sliding_window_inference
from torch import Tensor

from qcanet_monai.nn.devices import autocast, choose_precision


class AutocastInferer(Inferer):
    """Run another inferer under autocast and hand back float32.

    MONAI's engines autocast on CUDA only; this serves the CPU as well.

    Parameters
    ----------
    inferer
        The inferer that runs the network; MONAI's ``SimpleInferer`` if None.
    precision
        ``auto``, ``bf16``, ``fp16`` or ``fp32``.
    """

    def __init__(self, inferer: Inferer | None = None, precision: str = "auto") -> None:
        super().__init__()
        self.inferer = inferer or SimpleInferer()
        choose_precision("cpu", precision)  # an unknown name is told before anything runs
        self.precision = precision

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Logits (B, C, Z, Y, X) float32 of an image (B, 1, Z, Y, X)."""
        with autocast(inputs.device, self.precision):
            logits: Tensor = self.inferer(inputs, network, *args, **kwargs)
        return logits.float()


class FlipInferer(Inferer):
    """Mean logits over an image and its mirror images along y, x and both; never along z.

    Parameters
    ----------
    inferer
        The inferer that runs the network, four times if `flips`, else once.
    flips
        Whether to mirror at all.
    """

    def __init__(self, inferer: Inferer, flips: bool = True) -> None:
        super().__init__()
        self.inferer = inferer
        self.mirrored: tuple[tuple[int, ...], ...] = ((), (3,), (4,), (3, 4)) if flips else ((),)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Logits (B, C, Z, Y, X) of an image (B, 1, Z, Y, X)."""
        total: Tensor | None = None
        for axes in self.mirrored:
            logits = self.inferer(inputs.flip(axes), network, *args, **kwargs).flip(axes)
            total = logits if total is None else total + logits
        assert total is not None
        return total / len(self.mirrored)


class VolumeInferer(Inferer):
    """One pass over the whole volume, or blended tiles where it has more than `max_voxels`.

    Parameters
    ----------
    multiple
        Edge lengths are mirror-padded to multiples of this many voxels: ``2**depth`` of the network.
    max_voxels
        Largest volume that goes through in one pass; training memory grows with it.
    tile
        Edge of a tile in voxels, a multiple of `multiple`.
    overlap
        Share of a tile that overlaps its neighbour.
    """

    def __init__(
        self, multiple: int = 16, max_voxels: int = 4_000_000, tile: int = 128, overlap: float = 0.25
    ) -> None:
        super().__init__()
        self.multiple, self.max_voxels, self.tile, self.overlap = multiple, max_voxels, tile, overlap

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Logits (B, C, Z, Y, X) of an image (B, 1, Z, Y, X)."""
        size = inputs.shape[2:]
        padding = [(-n) % self.multiple for n in size]
        # a mirror cannot be longer than what it shows
        mode = "reflect" if all(p < n for p, n in zip(padding, size, strict=True)) else "replicate"
        flat = [value for p in reversed(padding) for value in (0, p)]
        padded = torch.nn.functional.pad(inputs, flat, mode=mode) if any(padding) else inputs
        if padded[0, 0].numel() <= self.max_voxels:
            logits = network(padded, *args, **kwargs)
        else:
            tile = [min(self.tile, n) for n in padded.shape[2:]]
            logits = sliding_window_inference(
                padded, tile, 1, network, self.overlap, "gaussian", *args, **kwargs
            )
        return logits[..., : size[0], : size[1], : size[2]]
