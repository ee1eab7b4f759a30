"""U-Net inference in pieces, with exactly the result of one pass.

Tiles that pass through the whole network need a margin as wide as its receptive field, and still differ at
the seams. Here each level runs in pieces of its own, which need only the margin of two convolutions. Of each
level, only the pooled features, the output and, below the first level, the skip are stored whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from torch import Tensor

from qcanet_monai.nn.devices import lasting, release_freed_memory
from qcanet_monai.nn.fusion import FusedUNet3D
from qcanet_monai.nn.unet import UNet3D

Box = tuple[slice, ...]


def tiled_forward(network: UNet3D | FusedUNet3D, image: Tensor, voxels: int) -> Tensor:
    """Map an image (B, 1, Z, Y, X) to logits (B, C, Z, Y, X), as ``network(image)``.

    Parameters
    ----------
    network
        Network in evaluation mode: batch norms in training would see single pieces.
    image
        Image with edge lengths that are multiples of ``2**depth``.
    voxels
        Approximate voxels per piece; memory use beyond the stored features grows with it.
    """
    assert not network.training
    release_freed_memory()
    return _level(network, [image], 0, voxels)


def _level(network: UNet3D | FusedUNet3D, held: list[Tensor], level: int, voxels: int) -> Tensor:
    """Run a level and all lower levels; empty `held` to free the input early."""
    encode, x = network.encoder[level], held.pop()
    size = x.shape[2:]
    if level == network.depth:
        return encode(x)
    margin = 2 * (network.kernel_size // 2)  # two convolutions

    def encoded(box: Box) -> Tensor:
        window = _grown(box, margin, size)
        return _inner(encode(x[window]), window, box)

    if level == 0:  # recompute its skip, which would need the most memory
        below = [_assembled(lambda box: network.pool(encoded(box)), size, voxels, 2)]
        skip = encoded
    else:
        features = _assembled(encoded, size, voxels, 1)
        del x
        below = [_assembled(lambda box: network.pool(features[box]), size, voxels, 2)]

        def skip(box: Box) -> Tensor:
            return features[box]

    below.append(_level(network, below, level + 1, voxels // 3))  # level + 1 has twice the features
    position = network.depth - 1 - level

    def decoded(box: Box) -> Tensor:
        window = _grown(box, margin, size)
        out = network.join(position, below[0][_halved(window)], skip(window))
        return _inner(network.head(out) if level == 0 else out, window, box)

    if level == 0:
        release_freed_memory()
    return _assembled(decoded, size, voxels, 1)


def _assembled(function: Callable[[Box], Tensor], size: Sequence[int], voxels: int, step: int) -> Tensor:
    """Assemble a function's results for all boxes; `step` 2 halves their size."""
    whole: Tensor | None = None
    for box in _boxes(size, voxels):
        part = function(box)
        if whole is None:
            whole = lasting((*part.shape[:2], *(n // step for n in size)), part)
        whole[_halved(box) if step == 2 else box] = part
    assert whole is not None
    return whole


def _boxes(size: Sequence[int], voxels: int) -> Iterator[Box]:
    """Cover a volume with equal boxes of even edges; the last may overlap."""
    # a box reuses the freed memory of an equal one
    cuts = []
    for axis, length in enumerate(size):
        # spread the remaining voxels evenly over the remaining axes
        edge = max(2, int(voxels ** (1 / (3 - axis))))
        count = -(-length // edge)
        edge = -(-length // count)
        edge = min(edge + edge % 2, length)
        voxels //= edge
        cuts.append(
            [slice(start, start + edge) for start in (min(edge * i, length - edge) for i in range(count))]
        )
    yield from ((slice(None), slice(None), *box) for box in product(*cuts))


def _grown(box: Box, margin: int, size: Sequence[int]) -> Box:
    """Add `margin` to both sides of a box, or all of it inwards at the border."""
    window = []
    for side, whole in zip(box[2:], size, strict=True):
        length = min(side.stop - side.start + 2 * margin, whole)
        start = min(max(side.start - margin, 0), whole - length)
        window.append(slice(start, start + length))
    return *box[:2], *window


def _inner(features: Tensor, window: Box, box: Box) -> Tensor:
    sides = zip(window[2:], box[2:], strict=True)
    z, y, x = (slice(inner.start - outer.start, inner.stop - outer.start) for outer, inner in sides)
    return features[..., z, y, x]


def _halved(box: Box) -> Box:
    return *box[:2], *(slice(s.start // 2, s.stop // 2) for s in box[2:])
