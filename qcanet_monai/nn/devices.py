"""Device-specific precision, memory format, memory allocation and replicas."""

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
_BYTES_PER_VOXEL = 1024  # fp32 features that a pass of 16 to 32 channels holds at once

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(device: torch.device | str, precision: str = "auto") -> str:
    """Resolve ``auto`` to bf16 on hardware with bf16 products, else to fp32.

    Emulated bf16 is slower than fp32. Other precisions stay unchanged; unknown names raise a ModelError.
    """
    if precision == "auto":
        if torch.device(device).type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        # avx512 alone would only emulate bf16
        cpu = torch.cpu
        return "bf16" if cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported() else "fp32"
    if precision not in PRECISIONS:
        raise ModelError(f"expected a precision of auto, {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def autocast(device: torch.device | str, precision: str = "auto") -> AbstractContextManager[object]:
    """Return a context that runs a forward pass in `precision` on `device`."""
    chosen = choose_precision(device, precision)
    return torch.autocast(
        torch.device(device).type, dtype=PRECISIONS[chosen], enabled=chosen != "fp32", cache_enabled=False
    )


def channels_last(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a network to a device in the fastest memory format for 3-D convolutions."""
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    # torch's stubs lack the 3-D `memory_format`
    moved: nn.Module = network.to(device=device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return moved


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory for later tensors; no effect without glibc.

    By default, glibc returns large blocks to the kernel, which zeroes every page again at each use.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, -1)


def release_freed_memory() -> None:
    """Return freed memory to the kernel, before work with blocks of other sizes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def lasting(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Allocate a channels-last tensor (B, C, Z, Y, X), dtype and device of `like`.

    On the CPU, deleting the tensor returns its memory to the kernel. Use it for long-lived tensors, which
    would otherwise fragment the freed memory that glibc keeps.
    """
    layout = torch.channels_last_3d
    if like.device.type != "cpu":
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
    count, channels, *size = shape
    # Linux allocates shared mappings in pages of only 4 kB
    options = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    room = mmap.mmap(-1, math.prod(shape) * like.itemsize, **options)
    return torch.frombuffer(room, dtype=like.dtype).view(count, *size, channels).permute(0, 4, 1, 2, 3)


def voxels_at_hand(device: torch.device | str) -> int:
    """Return the number of voxels per pass that fit a quarter of the free memory."""
    if torch.device(device).type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    return max(free // 4 // _BYTES_PER_VOXEL, 1)


def data_parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a network for distributed training, with synced batch norms on GPUs."""
    if device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    moved = channels_last(network, device)
    return nn.parallel.DistributedDataParallel(moved, [device] if device.type == "cuda" else None)


def rank() -> int:
    """Return this process's rank; 0, the rank that writes files, if not distributed."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
