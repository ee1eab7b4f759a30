"""Bundles fitted to a microscope from unlabelled images: twins that look like them, and a short training."""

from __future__ import annotations

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
_MOST_IMAGES = 4  # more tell little and cost a minute each
_SMALLEST = 9.0  # voxels across a nucleus; smaller ones are seen on a finer grid
_EARLIER, _LATER = 1.2, 0.8  # generations around the image's own, for the rest of its series


class Read(NamedTuple):
    """One image: its volume, the part of it that was looked at, its twins and what they tell."""

    volume: Volume
    part: NDArray[Any]
    posterior: Posterior
    estimate: Estimate


@dataclass(frozen=True)
class Adaptation:
    """What was read from the images, and what the training brought on their twins.

    `scores` has the entries "nsn" and "ndn"; `grid` is the edge in µm of the voxels on which the networks
    look, None for the image's finest spacing.
    """

    folder: Path
    estimates: dict[str, Estimate]
    scores: dict[str, Scores]
    grid: float | None


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
    """Fit NSN and NDN to a microscope from images alone.

    Parameters
    ----------
    volumes
        Images of one microscope; at most four of them, evenly spread, are looked at.
    output
        New or empty folder: bundles ``nsn`` and ``ndn``, ``simulation.yaml``, ``twins.png``, ``adapt.json``.
        It appears when it is whole.
    nsn, ndn
        Model references to begin with.
    steps
        Optimiser steps of each network, at least 1.
    rounds
        Twins drawn in each round of the search for posterior.
    seed
        Fixes every random choice.
    workers
        Processes that simulate; as many as there are cores if None.
    tracking_uri
        MLflow's store, where a reference names a registered version.
    stage
        Called with a stage's name and length; its context lends a function that is called at every step.

    Raises
    ------
    InputError
        If the images cannot be used, or what is read from them is not to be trusted.
    ModelError
        If a reference cannot be used.
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
        result = Adaptation(output, {str(i.volume.source): i.estimate for i in images}, scores, grid)
        _record(result, images, starts, steps, seed, temporary / "adapt.json")
        if output.exists():
            output.rmdir()
        temporary.replace(output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return result


def training_for(prior: Simulation, images: Sequence[Read]) -> Simulation:
    """Distributions to train on: the images' likenesses together, and the stages before and after theirs."""
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
    """Voxel edge in µm on which small nuclei come to a size that the networks know; None if they have it."""
    diameter = float(np.median([image.estimate.diameter_um.median for image in images]))
    return None if diameter >= _SMALLEST * min(images[0].volume.spacing) else round(diameter / _SMALLEST, 4)


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
        for config in ("train", "inference"):  # the twins' µm are not the image's
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
        },
    )
