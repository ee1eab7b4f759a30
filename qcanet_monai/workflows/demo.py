"""The main job on an embryo that needs no download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qcanet_monai.io import output_folder, write_json
from qcanet_monai.io.dataset import image_path, truth_path
from qcanet_monai.io.names import list_images
from qcanet_monai.workflows.batch import segment_files
from qcanet_monai.workflows.evaluate import Scores, evaluate_paths
from qcanet_monai.workflows.segment import Segmenter
from qcanet_monai.workflows.simulate import simulate_dataset


def run_demo(
    folder: Path, *, timepoints: int, seed: int, progress: Callable[[], None] = lambda: None
) -> dict[str, Scores]:
    """Simulate, segment and score one embryo below `folder`; returns the scores per frame and their mean.

    An embryo that an earlier demo left in ``folder/data`` is taken as it is.
    """
    data = output_folder(folder) / "data"
    if not data.exists():
        simulate_dataset(
            data, embryos=1, timepoints=timepoints, seed=seed, spacing=(1.75, 0.8, 0.8), workers=1
        )
    images = list_images([image_path(data, "train", "x").parent])
    output = folder / "segmentation"
    segment_files(images, output, Segmenter(), progress=lambda _path: progress()).raise_failures()
    results = {}
    for image in images:
        labels = output / f"{image.stem}_labels.tif"
        results[image.stem] = evaluate_paths(labels, truth_path(data, "train", "QCANet", image.name))[
            labels.stem
        ]
    write_json(folder / "scores.json", results)
    return results
