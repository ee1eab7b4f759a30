"""Configurable U-Net of NSN, NDN and the 3D U-Net baseline."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.upsampled import upsampled_convolution

PADDINGS = ("same", "valid")


class UNet3D(nn.Module):
    """3-D U-Net with batch norm (Tokuoka et al. 2020, Fig. 2).

    Encoder level l = 0..depth has two convolutions, to ``channels * 2**l`` and to ``channels * 2**(l + 1)``
    features. A max-pooling by 2 follows at all but the last level. A decoder level has a transposed
    convolution of stride 2, the concatenated skip and two convolutions. The head is a 1x1x1 convolution. The
    numbers of parameters equal those of the authors' networks.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits (2 for softmax, 1 for sigmoid).
    depth
        Number of poolings, at least 1.
    channels
        Features of the first convolution.
    kernel_size
        Kernel edge length of the convolutions, odd, in voxels.
    padding
        ``same`` keeps the grid. ``valid`` uses no values beyond the image: skips are centre-cropped, and the
        logits lose `margin` voxels on every side (Ram et al. 2018).
    dropout
        Fraction of the channels dropped after every two convolutions except the last two.

    Attributes
    ----------
    margin : int
        Voxels missing from the logits on every side; 0 with padding ``same``.

    Raises
    ------
    ModelError
        If a parameter is out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        depth: int = 2,
        channels: int = 16,
        kernel_size: int = 3,
        padding: str = "same",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(depth=depth, channels=channels, in_channels=in_channels, out_channels=out_channels)
        check_block(kernel_size, dropout)
        if padding not in PADDINGS:
            raise ModelError(f"expected a padding of {', '.join(PADDINGS)}, got {padding!r}")
        self.depth, self.kernel_size = depth, kernel_size
        self.lost = 2 * (kernel_size - 1) if padding == "valid" else 0  # voxels per axis, two convolutions
        # lost twice at every level but the lowest, in voxels 2**level wide
        self.margin = self.lost * (3 * 2**depth - 2) // 2
        width = [channels * 2**level for level in range(depth + 2)]
        block = partial(double_convolution, kernel_size=kernel_size, padding=padding)
        self.encoder = nn.ModuleList(
            block(in_channels if lv == 0 else width[lv], width[lv], width[lv + 1], dropout=dropout)
            for lv in range(depth + 1)
        )
        self.pool = nn.MaxPool3d(2)
        levels = range(depth - 1, -1, -1)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(width[lv + 2], width[lv + 2], 2, stride=2) for lv in levels
        )
        self.decoder = nn.ModuleList(
            block(width[lv + 2] + width[lv + 1], width[lv + 1], width[lv + 1], dropout=dropout if lv else 0.0)
            for lv in levels
        )
        self.head = nn.Conv3d(width[1], out_channels, 1)
        self.apply(he_normal)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, Z, Y, X) to logits (B, out_channels, Z, Y, X).

        With padding ``valid``, the logits lack `margin` voxels on every side.

        Raises
        ------
        ModelError
            If Z, Y or X is not a multiple of ``2**depth``; with padding ``valid``, if the size does not fit.
        """
        head: Tensor = self.head(self.features(x))
        return head

    def features(self, x: Tensor) -> Tensor:
        """Return the head's input (B, channels * 2, Z, Y, X) for an image, see `forward`."""
        if not torch.jit.is_scripting() and not torch.jit.is_tracing():
            self._check_size(x)
        skips: list[Tensor] = []
        for level, encode in enumerate(self.encoder):
            x = encode(x)
            if level < self.depth:
                skips.append(x)
                x = self.pool(x)
        for up, decode in zip(self.up, self.decoder):  # noqa: B905 - TorchScript has no `strict`
            skip = skips.pop()
            if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript skips only a block of its own
                if self._is_fast(x):
                    x = _joined_fast(up, decode, x, skip)
                    continue
            x = up(x)
            if self.margin > 0:
                skip = centre_cropped(skip, x)
            x = decode(torch.cat([x, skip], dim=1))
        return x

    def _is_fast(self, x: Tensor) -> bool:
        """Return True in training on a CPU; on GPUs the faster way was not measured."""
        return self.training and torch.is_grad_enabled() and self.margin == 0 and x.device.type == "cpu"

    def join(self, position: int, below: Tensor, skip: Tensor) -> Tensor:
        """Run decoder `position` (0 lowest) on (B, C, Z, Y, X) and a skip twice as large."""
        joined = torch.cat([self.up[position](below), skip], dim=1)
        return self.decoder[position](joined)

    def _check_size(self, x: Tensor) -> None:
        size, multiple = tuple(x.shape[2:]), 2**self.depth
        if self.margin:
            # the lowest level must be large enough to leave one voxel of output
            lowest = self.lost + self.lost * (multiple - 1) // multiple + 1
            least = multiple * lowest + self.lost * (multiple - 1)
            if any(n < least or (n - least) % multiple for n in size):
                fitting = f"{least}, {least + multiple}, {least + 2 * multiple}"
                raise ModelError(
                    f"expected edge lengths of {fitting} voxels and so on in steps of {multiple}, "
                    f"got {size}: crop the volume or pad it by reflection"
                )
        elif any(n % multiple for n in size):
            raise ModelError(
                f"expected edge lengths that are multiples of {multiple}, got {size}: "
                "pad the volume or run through the bundle's inferer"
            )


def _joined_fast(up: nn.Module, decode: nn.Module, below: Tensor, skip: Tensor) -> Tensor:
    assert isinstance(up, nn.ConvTranspose3d)
    assert isinstance(decode, nn.Sequential)
    first = decode[0]
    assert isinstance(first, nn.Conv3d)
    joined: Tensor = decode[1:](upsampled_convolution(up, first, below, skip))
    return joined


def count_parameters(network: nn.Module, *, convolution_biases: bool = True) -> int:
    """Count trainable parameters; the paper leaves out the convolutions' biases."""
    total = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if convolution_biases:
        return total
    convolutions = (m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d))
    return total - sum(m.bias.numel() for m in convolutions if m.bias is not None)


def double_convolution(
    inner: int,
    middle: int,
    outer: int,
    *,
    kernel_size: int,
    padding: str = "same",
    norm: bool = True,
    dropout: float = 0.0,
    whole: bool = True,
) -> nn.Sequential:
    """Build two convolutions to `middle` and `outer` features, each with a ReLU.

    Each has a batch norm if `norm`. Dropout at the end acts on whole channels, or with ``whole=False`` on
    single values; without dropout, the other layers keep their names.
    """
    layers: list[nn.Module] = []
    zeros = kernel_size // 2 if padding == "same" else 0
    for before, after in ((inner, middle), (middle, outer)):
        layers.append(nn.Conv3d(before, after, kernel_size, padding=zeros))
        if norm:
            layers.append(nn.BatchNorm3d(after))
        layers.append(nn.ReLU(inplace=True))
    if dropout:
        layers.append(nn.Dropout3d(dropout) if whole else nn.Dropout(dropout))
    return nn.Sequential(*layers)


def centre_cropped(features: Tensor, like: Tensor) -> Tensor:
    """Centre-crop features (B, C, Z, Y, X) to `like`; the end loses an odd voxel."""
    for axis in range(2, 5):
        length = like.shape[axis]
        features = features.narrow(axis, (features.shape[axis] - length) // 2, length)
    return features


def he_normal(module: nn.Module) -> None:
    """Set He-normal weights and zero biases of a convolution, for ``Module.apply``."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_counts(**counts: int) -> None:
    """Raise a ModelError for a count that is not a whole number of at least 1."""
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"expected {name} to be a whole number of at least 1, got {value!r}")


def check_block(kernel_size: int, dropout: float) -> None:
    """Raise a ModelError for an even kernel size or a dropout not in [0, 1)."""
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ModelError(f"expected an odd kernel_size of at least 1, got {kernel_size!r}: try 3 or 5")
    if not 0 <= dropout < 1:
        raise ModelError(f"expected a dropout of at least 0 and below 1, got {dropout!r}: try 0.1 or 0.5")
