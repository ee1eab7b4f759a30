"""What a device does well: memory format, precision, replicas."""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
from contextlib import AbstractContextManager

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn

from qcanet_monai.errors import ModelError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_BYTES_PER_VOXEL = 1024  # of features that a pass of 16 to 32 channels keeps at a time, in fp32

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(device: torch.device | str, precision: str = "auto") -> str:
    """``auto`` is bf16 where the hardware multiplies it, else fp32 (emulated bf16 is slower).

    Raises
    ------
    ModelError
        If the name is unknown.
    """
    if precision == "auto":
        if torch.device(device).type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        # asks for avx512_bf16, amx or the like, not for avx512 alone
        cpu = torch.cpu
        return "bf16" if cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported() else "fp32"
    if precision not in PRECISIONS:
        raise ModelError(f"expected a precision of auto, {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def autocast(device: torch.device | str, precision: str = "auto") -> AbstractContextManager[object]:
    """Context in which a network's forward pass runs in `precision` on `device`."""
    chosen = choose_precision(device, precision)
    return torch.autocast(
        torch.device(device).type, dtype=PRECISIONS[chosen], enabled=chosen != "fp32", cache_enabled=False
    )


def channels_last(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a network to a device in the memory format in which 3-D convolutions are fastest."""
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    # torch's stubs know no `memory_format` of 3-D networks
    moved: nn.Module = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return moved


def keep_freed_memory() -> None:
    """Let glibc hand freed tensors' memory to the next ones, where there is glibc.

    By default it gives large blocks back to the kernel, which zeroes them, page by page, at every use.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, -1)


def release_freed_memory() -> None:
    """Give it back to the kernel once, before work whose blocks are of other sizes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def lasting(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An empty tensor (B, C, Z, Y, X), channels last, whose memory goes back to the kernel with it.

    For those that outlive many others: among freed memory that is kept they would leave holes.
    """
    layout = torch.channels_last_3d
    if like.device.type != "cpu":
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
    count, channels, *size = shape
    # private to the process: of what is shared Linux hands out 4 kB at a time
    options = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    room = mmap.mmap(-1, math.prod(shape) * like.itemsize, **options)
    return torch.frombuffer(room, dtype=like.dtype).view(count, *size, channels).permute(0, 4, 1, 2, 3)


def voxels_at_hand(device: torch.device | str) -> int:
    """How many voxels may go through a network at once on a quarter of the device's free memory."""
    if torch.device(device).type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    return max(free // 4 // _BYTES_PER_VOXEL, 1)


def data_parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """A network replicated over the processes of a distributed training, statistics synchronised on GPUs."""
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    moved = channels_last(network, device)
    return nn.parallel.DistributedDataParallel(moved, [device] if device.type == "cuda" else None)


def rank() -> int:
    """Number of this process in a distributed training; 0, which alone writes, where there is none."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
