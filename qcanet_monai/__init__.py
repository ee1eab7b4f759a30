"""Segment, count and measure nuclei in 3-D embryo images with QCANet on MONAI.

>>> import numpy as np
>>> import qcanet_monai as qcanet
>>> z, y, x = np.ogrid[:20, :48, :48]  # a nucleus of 12 µm
>>> inside = ((z - 10) * 1.75) ** 2 + ((y - 24) * 0.8) ** 2 + ((x - 24) * 0.8) ** 2 < 6**2
>>> image = np.where(inside, 900, 100)
>>> model = qcanet.load("qcanet")
>>> result = model.segment(image, spacing=(1.75, 0.8, 0.8))
>>> result.labels.shape, len(result.nuclei)
((20, 48, 48), 1)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from qcanet_monai.datasets.simulate import simulate_dataset as simulate
    from qcanet_monai.evaluation.calibrate import calibrate
    from qcanet_monai.evaluation.evaluate import evaluate_labels as evaluate
    from qcanet_monai.io import Volume, read_labels
    from qcanet_monai.io import read_volume as read_image
    from qcanet_monai.promotion.promote import promote
    from qcanet_monai.segmentation.load import load_segmenter as load
    from qcanet_monai.segmentation.measure_labels import measure_labels as measure
    from qcanet_monai.segmentation.result import Segmentation
    from qcanet_monai.segmentation.segmenter import Segmenter
    from qcanet_monai.timelapse.lineage import track
    from qcanet_monai.tuning.tune import run_study as tune

# imported on first use: torch and MONAI take seconds to load
_HOME = {
    "Segmentation": "segmentation.result",
    "Segmenter": "segmentation.segmenter",
    "Volume": "io.volume",
    "calibrate": "evaluation.calibrate",
    "evaluate": "evaluation.evaluate:evaluate_labels",
    "load": "segmentation.load:load_segmenter",
    "measure": "segmentation.measure_labels:measure_labels",
    "promote": "promotion.promote",
    "read_image": "io.volume:read_volume",
    "read_labels": "io.volume",
    "simulate": "datasets.simulate:simulate_dataset",
    "track": "timelapse.lineage",
    "tune": "tuning.tune:run_study",
}
__all__ = [
    "Segmentation",
    "Segmenter",
    "Volume",
    "calibrate",
    "evaluate",
    "load",
    "measure",
    "promote",
    "read_image",
    "read_labels",
    "simulate",
    "track",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, other = _HOME[name].partition(":")
    globals()[name] = found = getattr(import_module(f"{__name__}.{module}"), other or name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
