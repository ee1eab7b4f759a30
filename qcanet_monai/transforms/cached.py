"""Datasets of volumes that are preprocessed once, and cached."""

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
    """Return a dataset that caches the result of its deterministic transforms.

    Parameters
    ----------
    data
        Items with file paths.
    transform
        Preprocessing and augmentation; the transforms before the first random one run once.
    cache_rate, workers
        Fraction of the items cached in memory, and number of threads that load them.
    cache_dir
        Cache all items in this folder instead, shared by trainings on this machine, without pickled objects.
        Items are identified by paths and transforms, not file contents: use a new folder for changed files.
    """
    # padding adds TraceKeys, a plain enumeration, to cached items
    torch.serialization.add_safe_globals([TraceKeys])
    if cache_dir is None:
        return CacheDataset(data, transform, cache_rate=cache_rate, num_workers=workers, progress=False)
    return PersistentDataset(data, transform, cache_dir, hash_transform=pickle_hashing, track_meta=True)
