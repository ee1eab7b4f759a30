"""A U-Net over a volume of any size, in pieces, with the very result of one pass.

Tiles that go through the whole network each need a margin as wide as its field of view, and still differ at
the seams. Here every level goes through in pieces of its own: a piece needs only the margin of its few
convolutions. What is kept of a whole level are its pooled features, its output and, but for the first, its
skip.
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
    """Logits (B, C, Z, Y, X) of an image (B, 1, Z, Y, X), as `network(image)` gives them.

    Parameters
    ----------
    network
        In evaluation mode: a batch norm that learns would see pieces.
    image
        Edge lengths are multiples of ``2**depth``.
    voxels
        Of a piece, about; the memory needed beyond the levels' features grows with it.
    """
    assert not network.training
    release_freed_memory()
    return _level(network, [image], 0, voxels)


def _level(network: UNet3D | FusedUNet3D, held: list[Tensor], level: int, voxels: int) -> Tensor:
    """Output of the decoder of a level, of the head at level 0, for the input of its encoder.

    The input is taken out of the list: it is given back once its features are there, before the output is.
    """
    encode, x = network.encoder[level], held.pop()
    size = x.shape[2:]
    if level == network.depth:
        return encode(x)
    margin = 2 * (network.kernel_size // 2)  # of two convolutions

    def encoded(box: Box) -> Tensor:
        window = _grown(box, margin, size)
        return _inner(encode(x[window]), window, box)

    if level == 0:  # whose features would take more than all else
        below = [_assembled(lambda box: network.pool(encoded(box)), size, voxels, 2)]
        skip = encoded
    else:
        features = _assembled(encoded, size, voxels, 1)
        del x
        below = [_assembled(lambda box: network.pool(features[box]), size, voxels, 2)]

        def skip(box: Box) -> Tensor:
            return features[box]

    below.append(_level(network, below, level + 1, voxels // 3))  # of twice the features
    position = network.depth - 1 - level

    def decoded(box: Box) -> Tensor:
        window = _grown(box, margin, size)
        out = network.join(position, below[0][_halved(window)], skip(window))
        return _inner(network.head(out) if level == 0 else out, window, box)

    if level == 0:
        release_freed_memory()
    return _assembled(decoded, size, voxels, 1)


def _assembled(function: Callable[[Box], Tensor], size: Sequence[int], voxels: int, step: int) -> Tensor:
    """What a function gives for each piece of a volume, put together; it may shrink by `step`."""
    whole: Tensor | None = None
    for box in _boxes(size, voxels):
        part = function(box)
        if whole is None:
            whole = lasting((*part.shape[:2], *(n // step for n in size)), part)
        whole[_halved(box) if step == 2 else box] = part
    assert whole is not None
    return whole


def _boxes(size: Sequence[int], voxels: int) -> Iterator[Box]:
    """Equal boxes of even edges that cover a volume of that size (Z, Y, X), as cubic as they can be.

    Equal, so that the next piece fits where the one before has freed its memory; the last may overlap.
    """
    cuts = []
    for axis, length in enumerate(size):
        # what earlier axes leave of a piece is shared evenly among this one and the later ones
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
    """A window with that margin on both sides; where the volume ends, all of it on the other."""
    window = []
    for side, whole in zip(box[2:], size, strict=True):
        length = min(side.stop - side.start + 2 * margin, whole)
        start = min(max(side.start - margin, 0), whole - length)
        window.append(slice(start, start + length))
    return *box[:2], *window


def _inner(features: Tensor, window: Box, box: Box) -> Tensor:
    """What of a window's features lies in a box."""
    sides = zip(window[2:], box[2:], strict=True)
    z, y, x = (slice(inner.start - outer.start, inner.stop - outer.start) for outer, inner in sides)
    return features[..., z, y, x]


def _halved(box: Box) -> Box:
    return *box[:2], *(slice(s.start // 2, s.stop // 2) for s in box[2:])
