"""Adaptation of bundles to a microscope by training on synthetic matches."""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from qcanet_monai.adaptation.abc_inference import ROUNDS, Posterior, abc_inference, narrowed
from qcanet_monai.adaptation.agreement import Agreement, agreement, is_worse
from qcanet_monai.adaptation.estimates import Estimate, Range, estimates, refuse
from qcanet_monai.adaptation.fine_tune import Scores, check_trainable, fine_tune, steps_of
from qcanet_monai.adaptation.image_part import height_over_width, part_of, prior_for
from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import InputError
from qcanet_monai.io import Volume, output_folder, replacing, write_json
from qcanet_monai.plot.synthetic_matches import Row, write_synthetic_matches
from qcanet_monai.simulator.settings import Simulation
from qcanet_monai.training.export import set_knobs

Stage = Callable[[str, int], AbstractContextManager[Callable[[], None]]]

STEPS = 120  # optimiser steps of each network
_MOST_IMAGES = 4  # more images add little and cost a minute each
_SMALLEST = 9.0  # voxels across a nucleus; a finer grid is used for smaller nuclei
_EARLIER, _LATER = 1.2, 0.8  # generations before and after the image's own that are simulated too


class Read(NamedTuple):
    """Image, its analysed region, its posterior and its estimates."""

    volume: Volume
    part: NDArray[Any]
    posterior: Posterior
    estimate: Estimate


@dataclass(frozen=True)
class Adaptation:
    """Estimates by image file, and validation scores by network ("nsn" and "ndn").

    `grid` is the isotropic voxel size in µm of the networks' input, None for the image's finest spacing.
    `agreements` are those of the initial and of the adapted NSN on the images; `kept` is False if the adapted
    networks were given up for the initial ones.
    """

    folder: Path
    estimates: dict[str, Estimate]
    scores: dict[str, Scores]
    grid: float | None
    agreements: dict[str, Agreement]
    kept: bool


def _silent(_what: str, _total: int) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


def adapt(
    volumes: Sequence[Volume],
    output: Path,
    *,
    nsn: str | Path = "bundled",
    ndn: str | Path = "bundled",
    steps: int = STEPS,
    rounds: Sequence[int] = ROUNDS,
    seed: int = 0,
    workers: int | None = None,
    tracking_uri: str | None = None,
    stage: Stage = _silent,
) -> Adaptation:
    """Adapt NSN and NDN to a microscope from unlabelled images.

    Parameters
    ----------
    volumes
        Images (Z, Y, X) of one microscope; at most four, evenly spread over the sequence, are analysed.
    output
        New or empty folder for the bundles ``nsn`` and ``ndn``, ``simulation.yaml``, ``twins.png`` and
        ``adapt.json``; written completely or not at all.
    nsn, ndn
        References of the models to start from.
    steps
        Optimiser steps per network, at least 1.
    rounds, seed, workers
        As for :func:`~qcanet_monai.adaptation.abc_inference.abc_inference`.
    tracking_uri
        URI of the MLflow store, for references to registered models.
    stage
        Called with the name and length of a stage; returns a context manager of a function called per step.

    Raises
    ------
    InputError
        If an image cannot be used, or its estimates are not reliable.
    ModelError
        If a model cannot be found or trained.
    """
    if steps < 1:
        raise InputError(f"expected at least 1 step, got {steps}")
    output = output.resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"expected a new or empty folder, {output} holds files: choose another")
    chosen = [
        volumes[i] for i in sorted({*np.linspace(0, len(volumes) - 1, _MOST_IMAGES).round().astype(int)})
    ]
    prior = prior_for(height_over_width(chosen))
    parts = [part_of(volume) for volume in chosen]
    starts = {
        name: Bundle.find(reference, bundled=name, tracking_uri=tracking_uri)
        for name, reference in (("nsn", nsn), ("ndn", ndn))
    }
    for start in starts.values():
        check_trainable(start)
    images = []
    for volume, part in zip(chosen, parts, strict=True):
        with stage(f"looking at {volume.source.name}", sum(rounds)) as advance:
            posterior = abc_inference(
                part,
                prior,
                spacing=volume.spacing,
                seed=seed,
                rounds=rounds,
                workers=workers,
                progress=advance,
            )
        refuse(posterior, str(volume.source))
        images.append(Read(volume, part, posterior, estimates(posterior, part, volume.spacing)))
    output_folder(output.parent)
    temporary = output.with_name(f".{output.name}-{secrets.token_hex(4)}")
    try:
        output_folder(temporary)
        _picture(images, temporary / "twins.png")
        training = training_for(prior, images)
        grid = _grid(images)
        scores = _fit(training, grid, images[0], starts, temporary, steps, seed, stage)
        agreements = _agreements(images, grid, starts["nsn"], temporary / "nsn")
        kept = _keep_or_restore(agreements, starts, temporary)
        found = {str(i.volume.source): i.estimate for i in images}
        result = Adaptation(output, found, scores, grid if kept else None, agreements, kept)
        _record(result, images, starts, steps, seed, temporary / "adapt.json")
        if output.exists():
            output.rmdir()
        temporary.replace(output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return result


def training_for(prior: Simulation, images: Sequence[Read]) -> Simulation:
    """Pool the synthetic matches of all images into distributions for training."""
    twins = [twin for image in images for twin in image.posterior.matches]
    stages = [twin.settings["view.first"] for twin in twins]
    lateral = float(np.median([twin.settings["view.lateral_um"] for twin in twins]))
    nz, ny, nx = images[0].part.shape
    return narrowed(prior, twins).changed(
        {
            "view": {
                "lateral_um": round(lateral, 4),
                "first": round(max(0.1, float(np.quantile(stages, 0.1)) - _EARLIER), 3),
                "last": round(min(7.0, float(np.quantile(stages, 0.9)) + _LATER), 3),
                "depth_um": round(nz * lateral * height_over_width([images[0].volume]), 3),
                "width_um": round(max(ny, nx) * lateral, 3),
            }
        }
    )


def _grid(images: Sequence[Read]) -> float | None:
    """Return the isotropic voxel size in µm for small nuclei, None for large ones."""
    diameter = float(np.median([image.estimate.diameter_um.median for image in images]))
    return None if diameter >= _SMALLEST * min(images[0].volume.spacing) else round(diameter / _SMALLEST, 4)


def _agreements(
    images: Sequence[Read], grid: float | None, start: Bundle, adapted: Path
) -> dict[str, Agreement]:
    """Compare NSN before and after on the images."""
    diameter = float(np.median([image.estimate.diameter_um.median for image in images]))
    volumes, found = [image.volume for image in images], {}
    before, after = (
        next(iter(bundle.predictors(bundle.parser()).values())) for bundle in (start, Bundle.find(adapted))
    )
    finest = min(min(volume.spacing) for volume in volumes)
    coarse = max(finest, diameter / (before.max_diameter_voxels or math.inf))
    own, new = before.isotropic_spacing_um or coarse, grid or coarse
    found["initial"] = agreement(before, before, volumes, (own, own))
    found["adapted"] = agreement(after, before, volumes, (new, own))
    return found


def _keep_or_restore(agreements: dict[str, Agreement], starts: dict[str, Bundle], folder: Path) -> bool:
    """Return True if the adapted networks are kept; else copy the initial ones."""
    kept = not is_worse(agreements["adapted"], agreements["initial"])
    for name, start in starts.items() if not kept else ():
        shutil.rmtree(folder / name)
        shutil.copytree(start.folder, folder / name)
    return kept


def _picture(images: Sequence[Read], path: Path) -> None:
    rows = []
    for image in images:
        rows.append(Row(image.volume.source.name, image.part, image.volume.spacing))
        for twin in image.posterior.matches[:2]:
            seen = twin.frame(image.part.shape)
            rows.append(Row(f"simulated, {twin.nuclei} nuclei", seen.image, image.volume.spacing))
    write_synthetic_matches(path, rows, title="Each image and its nearest simulated twins")


def _fit(
    training: Simulation,
    grid: float | None,
    image: Read,
    starts: dict[str, Bundle],
    folder: Path,
    steps: int,
    seed: int,
    stage: Stage,
) -> dict[str, Scores]:
    settings = folder / "simulation.yaml"
    text = yaml.safe_dump(training.model_dump(exclude_defaults=True, mode="json"), sort_keys=False)
    with replacing(settings) as temporary:
        temporary.write_text("# qcanet simulate DIR --settings simulation.yaml\n" + text, encoding="utf-8")
    lateral = training.view["lateral_um"].always
    assert isinstance(lateral, float | int)
    simulated_grid = None if grid is None else grid / image.volume.spacing[2] * lateral
    scores = {}
    for name, start in starts.items():
        with stage(f"training {name.upper()}", steps_of(steps)) as advance:
            scores[name] = fine_tune(
                start,
                folder / name,
                settings=settings,
                steps=steps,
                isotropic_spacing_um=simulated_grid,
                seed=seed,
                progress=advance,
            )
        for config in ("train", "inference"):  # the simulation's µm differ from the image's
            path = folder / name / "configs" / f"{config}.yaml"
            path.write_text(
                set_knobs(path.read_text(encoding="utf-8"), {"isotropic_spacing_um": grid}, path),
                encoding="utf-8",
            )
    return scores


def _record(
    result: Adaptation, images: Sequence[Read], starts: dict[str, Bundle], steps: int, seed: int, path: Path
) -> None:
    write_json(
        path,
        {
            "images": [
                {
                    "image": image.volume.source,
                    "spacing_um": image.volume.spacing,
                    "ood_score": image.posterior.ood_score,
                    "estimates": {
                        name: value._asdict() if isinstance(value, Range) else value
                        for name, value in image.estimate._asdict().items()
                    },
                }
                for image in images
            ],
            "grid_um": result.grid,
            "steps": steps_of(steps),
            "seed": seed,
            "start": {name: start.folder for name, start in starts.items()},
            "scores_on_simulated_twins": {name: scores._asdict() for name, scores in result.scores.items()},
            "agreement_on_images": {name: found._asdict() for name, found in result.agreements.items()},
            "kept": result.kept,
        },
    )
