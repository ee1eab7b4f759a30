"""Pictures of what a trial's bundle finds in the same few validation volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.io import read_labels, read_volume
from qcanet_monai.plot.comparison import compare_with_truth
from qcanet_monai.segmentation.segmenter import Segmenter

VOLUMES = 3


def chosen_volumes(items: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return at most three volumes, evenly spaced over the validation data."""
    places = np.linspace(0, len(items) - 1, min(VOLUMES, len(items))).round().astype(int)
    return [items[int(place)] for place in places]


def draw(bundle: Bundle, items: Sequence[Mapping[str, str]]) -> dict[str, npt.NDArray[np.uint8]]:
    """Draw image, truth and labels found of each volume, by the name of its file.

    The labels of a bundle with a single network are the connected parts above its threshold.
    """
    device = "$torch.device('cpu')"  # the GPUs are busy with trials
    segmenter = Segmenter(bundle, device=device) if bundle.gives_labels else None
    predictor = None if bundle.gives_labels else bundle.predictor(device=device)
    pictures = {}
    for item in items:
        volume = read_volume(item["image"])
        truth = read_labels(item["label"], need_spacing=False).array
        if segmenter is not None:
            found: npt.NDArray[Any] = segmenter(volume).labels
        else:
            assert predictor is not None
            above = predictor(volume.array, spacing=volume.spacing) >= float(bundle.inference["threshold"])
            found = ndimage.label(above)[0]
        pictures[Path(item["image"]).name.split(".")[0]] = compare_with_truth(volume.array, truth, found)
    return pictures
