"""MONAI inferers: whole volume where it fits, in the device's precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, sliding_window_inference
from torch import Tensor

from qcanet_monai.nn.devices import autocast, choose_precision, voxels_at_hand
from qcanet_monai.nn.folding import JoinedUNet3D
from qcanet_monai.nn.pieces import forward_in_pieces
from qcanet_monai.nn.unet import UNet3D


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
            seen = inputs.flip(axes) if axes else inputs  # a flip along no axis copies
            logits = self.inferer(seen, network, *args, **kwargs).flip(axes)
            total = logits if total is None else total + logits
        assert total is not None
        return total / len(self.mirrored)


class VolumeInferer(Inferer):
    """One pass over the whole volume, or several over its parts where it has more than `max_voxels`.

    A `UNet3D` gives the very result of one pass then, level by level (`nn.pieces`); other networks see
    overlapping tiles, blended with Gaussian weights.

    Parameters
    ----------
    multiple
        Edge lengths are mirror-padded to multiples of this many voxels: ``2**depth`` of the network.
    max_voxels
        Most voxels that go through at once; fewer where the device's free memory asks for it.
    overlap
        Share of a tile that overlaps its neighbour.
    """

    def __init__(self, multiple: int = 16, max_voxels: int = 4_000_000, overlap: float = 0.25) -> None:
        super().__init__()
        self.multiple, self.max_voxels, self.overlap = multiple, max_voxels, overlap

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Logits (B, C, Z, Y, X) of an image (B, 1, Z, Y, X)."""
        size = inputs.shape[2:]
        padding = [(-n) % self.multiple for n in size]
        # a mirror cannot be longer than what it shows
        mode = "reflect" if all(p < n for p, n in zip(padding, size, strict=True)) else "replicate"
        flat = [value for p in reversed(padding) for value in (0, p)]
        padded = torch.nn.functional.pad(inputs, flat, mode=mode) if any(padding) else inputs
        voxels = min(self.max_voxels, voxels_at_hand(inputs.device))
        if padded[0, 0].numel() <= voxels:
            logits = network(padded, *args, **kwargs)
        elif isinstance(network, UNet3D | JoinedUNet3D) and not network.training:
            logits = forward_in_pieces(network, padded, voxels)
        else:
            edge = max(int(voxels ** (1 / 3)) // self.multiple, 1) * self.multiple
            tile = [min(edge, n) for n in padded.shape[2:]]
            logits = sliding_window_inference(
                padded, tile, 1, network, self.overlap, "gaussian", *args, **kwargs
            )
        return logits[..., : size[0], : size[1], : size[2]]
