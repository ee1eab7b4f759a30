"""MONAI inferers: whole volume where it fits, in the device's precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, sliding_window_inference
from torch import Tensor

from qcanet_monai.nn.devices import autocast, choose_precision, voxels_at_hand
from qcanet_monai.nn.fusion import FusedUNet3D
from qcanet_monai.nn.tiled_forward import tiled_forward
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

    A `UNet3D` gives the very result of one pass then, level by level (`nn.tiled_forward`); other networks see
    overlapping tiles, blended with Gaussian weights.

    Parameters
    ----------
    multiple
        Edge lengths are mirror-padded to multiples of so many voxels, or of so many along (Z, Y, X).
    max_voxels
        Most voxels that go through at once; fewer where the device's free memory asks for it.
    overlap
        Share of a tile that overlaps its neighbour.
    margin, reach
        Voxels per side that a network without padding takes away, and how far beyond a part of it that does
        pad can see: it is shown the margin more of the mirror image, and tiles fit together without a seam.
    """

    def __init__(
        self,
        multiple: int | Sequence[int] = 16,
        max_voxels: int = 4_000_000,
        overlap: float = 0.25,
        margin: int = 0,
        reach: int = 0,
    ) -> None:
        super().__init__()
        self.multiple = (multiple,) * 3 if isinstance(multiple, int) else tuple(multiple)
        self.max_voxels, self.overlap, self.margin, self.reach = max_voxels, overlap, margin, reach

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Logits (B, C, Z, Y, X) of an image (B, 1, Z, Y, X)."""
        size = inputs.shape[2:]
        padded = _mirrored(inputs, [(0, (-n) % m) for n, m in zip(size, self.multiple, strict=True)])
        voxels = min(self.max_voxels, voxels_at_hand(inputs.device))
        if self.margin:
            logits = self._without_padding(padded, voxels, network)
        elif padded[:, 0].numel() <= voxels:
            logits = network(padded, *args, **kwargs)
        elif isinstance(network, UNet3D | FusedUNet3D) and not network.training:
            logits = tiled_forward(network, padded, voxels)
        else:
            tile = self._tile(padded.shape[2:], voxels ** (1 / 3))
            logits = sliding_window_inference(
                padded, tile, 1, network, self.overlap, "gaussian", *args, **kwargs
            )
        return logits[..., : size[0], : size[1], : size[2]]

    def _tile(self, size: Sequence[int], edge: float) -> list[int]:
        """Edges (Z, Y, X) of a tile about so long that the network can see."""
        whole = int(edge + 1e-6)  # of a cube root
        return [min(max(whole // m, 1) * m, n) for m, n in zip(self.multiple, size, strict=True)]

    def _without_padding(self, padded: Tensor, voxels: int, network: Callable[..., Tensor]) -> Tensor:
        size, margin = padded.shape[2:], self.margin
        halo = [-(-self.reach // m) * m for m in self.multiple]
        wide = _mirrored(padded, [(margin, margin)] * 3)
        tile = self._tile(size, voxels ** (1 / 3) - 2 * (margin + max(halo)))  # it is seen with all of these
        whole: Tensor | None = None
        for start in product(*(range(0, n, t) for n, t in zip(size, tile, strict=True))):
            box = [slice(s, min(s + t, n)) for s, t, n in zip(start, tile, size, strict=True)]
            seen = [
                slice(max(b.start - h, 0), min(b.stop + h, n))
                for b, h, n in zip(box, halo, size, strict=True)
            ]
            dz, dy, dx = (slice(s.start, s.stop + 2 * margin) for s in seen)
            part = network(wide[..., dz, dy, dx])
            if whole is None:
                whole = part.new_empty((*part.shape[:2], *size))
            z, y, x = box
            iz, iy, ix = (slice(b.start - s.start, b.stop - s.start) for b, s in zip(box, seen, strict=True))
            whole[..., z, y, x] = part[..., iz, iy, ix]
        assert whole is not None
        return whole


def _mirrored(image: Tensor, padding: Sequence[tuple[int, int]]) -> Tensor:
    """An image (B, C, Z, Y, X) with so many voxels more before and after it along each axis."""
    if not any(side for pair in padding for side in pair):
        return image
    # a mirror cannot be longer than what it shows
    fits = all(max(pair) < n for pair, n in zip(padding, image.shape[2:], strict=True))
    flat = [side for pair in reversed(padding) for side in pair]
    return torch.nn.functional.pad(image, flat, mode="reflect" if fits else "replicate")
