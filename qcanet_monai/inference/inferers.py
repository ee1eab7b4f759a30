"""MONAI inferers for whole volumes, tiles, mirror images and precision."""

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
    """Inferer that runs another inferer under autocast and returns float32.

    MONAI's engines use autocast on CUDA only; this inferer also uses it on the CPU.

    Parameters
    ----------
    inferer
        Inferer that runs the network; MONAI's ``SimpleInferer`` if None.
    precision
        ``auto``, ``bf16``, ``fp16`` or ``fp32``.
    """

    def __init__(self, inferer: Inferer | None = None, precision: str = "auto") -> None:
        super().__init__()
        self.inferer = inferer or SimpleInferer()
        choose_precision("cpu", precision)  # fail early on an unknown name
        self.precision = precision

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Map an image (B, 1, Z, Y, X) to logits (B, C, Z, Y, X) in float32."""
        with autocast(inputs.device, self.precision):
            logits: Tensor = self.inferer(inputs, network, *args, **kwargs)
        return logits.float()


class FlipInferer(Inferer):
    """Inferer that averages logits over mirror images along y, x and both, not z.

    Parameters
    ----------
    inferer
        Inferer that runs the network, 4 times with `flips`, else once.
    flips
        Average over the mirror images; if False, use the image only.
    """

    def __init__(self, inferer: Inferer, flips: bool = True) -> None:
        super().__init__()
        self.inferer = inferer
        self.mirrored: tuple[tuple[int, ...], ...] = ((), (3,), (4,), (3, 4)) if flips else ((),)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Map an image (B, 1, Z, Y, X) to logits (B, C, Z, Y, X)."""
        total: Tensor | None = None
        for axes in self.mirrored:
            seen = inputs.flip(axes) if axes else inputs  # a flip along no axis would copy
            logits = self.inferer(seen, network, *args, **kwargs).flip(axes)
            total = logits if total is None else total + logits
        assert total is not None
        return total / len(self.mirrored)


class VolumeInferer(Inferer):
    """Inferer for a whole volume, in parts if larger than `max_voxels`.

    For a `UNet3D` in evaluation mode, the parts give exactly the result of one pass (`nn.tiled_forward`).
    Other networks run on overlapping tiles, blended with Gaussian weights.

    Parameters
    ----------
    multiple
        Divisor of the edge lengths after mirror padding, or one divisor per axis (Z, Y, X).
    max_voxels
        Maximum number of voxels per pass; lowered if the device's free memory is small.
    overlap
        Fraction of a tile that overlaps its neighbour.
    margin, reach
        Voxels per side that a network without padding removes (`margin`), and that its padded layers see
        beyond (`reach`). With a margin, the image is mirrored at its border, and tiles join without seams.
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
        """Map an image (B, 1, Z, Y, X) to logits (B, C, Z, Y, X)."""
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
        """Return tile edges (Z, Y, X) close to `edge` that the network supports."""
        whole = int(edge + 1e-6)  # a cube root may be slightly too small
        return [min(max(whole // m, 1) * m, n) for m, n in zip(self.multiple, size, strict=True)]

    def _without_padding(self, padded: Tensor, voxels: int, network: Callable[..., Tensor]) -> Tensor:
        size, margin = padded.shape[2:], self.margin
        halo = [-(-self.reach // m) * m for m in self.multiple]
        wide = _mirrored(padded, [(margin, margin)] * 3)
        tile = self._tile(size, voxels ** (1 / 3) - 2 * (margin + max(halo)))  # read around each tile
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
    """Mirror-pad an image (B, C, Z, Y, X) by (before, after) voxels per axis."""
    if not any(side for pair in padding for side in pair):
        return image
    # reflection needs axes longer than the padding
    fits = all(max(pair) < n for pair, n in zip(padding, image.shape[2:], strict=True))
    flat = [side for pair in reversed(padding) for side in pair]
    return torch.nn.functional.pad(image, flat, mode="reflect" if fits else "replicate")
