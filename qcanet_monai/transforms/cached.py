"""A training's volumes, preprocessed once: kept in memory, or on disk for every training of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from monai.data import CacheDataset, Dataset, PersistentDataset
from monai.data.utils import pickle_hashing
from monai.transforms import Compose
from monai.utils.enums import TraceKeys


def cached(
    data: Sequence[dict[str, str]],
    transform: Compose,
    *,
    cache_rate: float = 1.0,
    workers: int = 2,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Dataset whose deterministic transforms, those before the first random one, run once.

    Parameters
    ----------
    data
        Items with the paths of their files.
    transform
        The preprocessing and the augmentation.
    cache_rate, workers
        Share of the items that is kept in memory, and threads that fill it.
    cache_dir
        Keep the items in this folder instead, whence any number of trainings read them through the
        operating system's one file cache. An item is known by its paths and its transforms, not by its
        content: give changed files another folder. Nothing in it is unpickled.
    """
    # padding, which is not random, leaves its trace in the items; a trace's keys are a plain enumeration
    torch.serialization.add_safe_globals([TraceKeys])
    if cache_dir is None:
        return CacheDataset(data, transform, cache_rate=cache_rate, num_workers=workers, progress=False)
    return PersistentDataset(data, transform, cache_dir, hash_transform=pickle_hashing, track_meta=True)
