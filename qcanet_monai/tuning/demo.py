"""Demo on simulated embryos: search, promotion, segmentation, tracking, scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.evaluation.evaluate import Scores, evaluate_labels, evaluate_tracks
from qcanet_monai.io import output_folder, write_json
from qcanet_monai.io.dataset import image_path, truth_path
from qcanet_monai.io.names import list_images
from qcanet_monai.promotion.promote import Promotion, promote
from qcanet_monai.registry.store import store_uri
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.timelapse.lineage import track
from qcanet_monai.tuning.engine import Watch
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.tune import Outcome, run_study

STUDY = "smoke"
GENERATIONS = 4.2  # cell cycles from the zygote: about sixteen nuclei in the last frame
INTERVAL_MIN = 240.0  # with 18 frames, a cell cycle takes about 17 h, as in the mouse


@dataclass(frozen=True)
class Demo:
    """Results of the demo, with segmentation scores per image and tracking scores."""

    outcome: Outcome
    champions: list[Promotion]
    segmentation: Path
    scores: dict[str, Scores]
    tracks: Scores
    tracking_uri: str


def run_demo(
    folder: Path,
    *,
    timepoints: int,
    seed: int,
    watch: Watch = lambda _progress: None,
    stage: Callable[[str], None] = lambda _text: None,
) -> Demo:
    """Tune NSN, promote the best, then segment and track a simulated embryo.

    Continues the study and reuses the embryo of an earlier demo in the same folder.

    Parameters
    ----------
    folder
        Folder for all results.
    timepoints, seed
        Number of frames and random seed of the simulated embryo.
    watch, stage
        See ``run_study``.
    """
    uri = store_uri(f"sqlite:///{output_folder(folder) / 'mlflow.db'}")
    studies = folder / "studies"
    begun = StudyFolder(studies, STUDY).begun
    outcome = run_study(STUDY, storage=studies, tracking_uri=uri, resume=begun, watch=watch, stage=stage)
    stage("promoting")
    champions = [
        promote("nsn", study=STUDY, tracking_uri=uri),
        promote("ndn", bundle="bundled", data=outcome.data, tracking_uri=uri),
    ]
    stage("simulating an embryo")
    data = folder / "data"
    if not data.exists():
        simulate_dataset(
            data,
            embryos=1,
            timepoints=timepoints,
            seed=seed,
            spacing=(1.75, 0.8, 0.8),
            generations=GENERATIONS,
            workers=1,
        )
    stage("segmenting the embryo with the champions")
    images = list_images([image_path(data, "train", "x").parent])
    output = folder / "segmentation"
    segmenter = load_segmenter(nsn="models:/nsn@champion", ndn="models:/ndn@champion", tracking_uri=uri)
    segment_files(images, output, segmenter, interval_min=INTERVAL_MIN).raise_failures()
    scores = {}
    for image in images:
        labels = output / f"{image.stem}_labels.tif"
        truth = truth_path(data, "train", "QCANet", image.name)
        scores[image.stem] = evaluate_labels(labels, truth)[labels.stem]
    stage("tracking the nuclei")
    track(output)
    tracks = evaluate_tracks(output / "tracks/Emb01_RES", data / "Tracks/train/Emb01_GT/TRA")
    write_json(folder / "scores.json", {**scores, "tracks": tracks})
    return Demo(outcome, champions, output, scores, tracks, uri)
