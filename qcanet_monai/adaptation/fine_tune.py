"""Short training of a bundle on simulated volumes, from existing weights."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ignite.engine import Events

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import ModelError
from qcanet_monai.io.suppress_logs import log_level

_EPOCHS = 3  # validations; fewer in a short training, as each costs as much as many steps
_STEPS_BETWEEN = 20
_VALIDATION = (4, 16)  # minimum and maximum number of validation volumes, which are not trained on
_LEARNING_RATE = 1.0e-3


class Scores(NamedTuple):
    """Key validation metric before and after training; `after` is at least `before`."""

    metric: str
    before: float
    after: float


def steps_of(steps: int) -> int:
    """Round optimiser steps up to whole epochs, as `fine_tune` does."""
    epochs = _epochs_of(steps)
    return epochs * -(-steps // epochs)


def _epochs_of(steps: int) -> int:
    return min(_EPOCHS, max(1, steps // _STEPS_BETWEEN))


def check_trainable(bundle: Bundle) -> None:
    """Check that a bundle can be trained on simulated volumes.

    Raises
    ------
    ModelError
        If the bundle lacks weights or ``configs/simulated.yaml``.
    """
    for name in ("configs/simulated.yaml", "models/model.pt"):
        if not (bundle.folder / name).is_file():
            raise ModelError(
                f"expected a bundle with {name}, got {bundle.folder}: give a bundle trained by this version"
            )


def fine_tune(
    start: Bundle,
    folder: Path,
    *,
    settings: Path,
    steps: int,
    isotropic_spacing_um: float | None = None,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Scores:
    """Train a bundle on simulated volumes; without improvement, keep its weights.

    Parameters
    ----------
    start, folder
        Bundle with weights and ``configs/simulated.yaml``, and folder of the trained bundle.
    settings
        YAML of the simulation settings.
    steps
        Optimiser steps, each on two patches of two volumes.
    isotropic_spacing_um
        Isotropic voxel size of the network's input in µm of the simulation; from the nuclear size if None.
    seed, progress
        Seed of the volumes, and function called after each step.

    Raises
    ------
    ModelError
        If the bundle lacks weights or ``configs/simulated.yaml``.
    """
    check_trainable(start)
    epochs = _epochs_of(steps)
    settings_of: dict[str, Any] = {}
    if isotropic_spacing_um is not None:
        settings_of["isotropic_spacing_um"] = isotropic_spacing_um
    workflow = start.workflow(
        "simulated",
        output_dir=str(folder),
        pretrained=str(start.weights),
        simulation=str(settings),
        tissue_fraction=None,
        volumes_per_epoch=2 * steps_of(steps) // epochs,
        validation_volumes=min(max(steps // 2, _VALIDATION[0]), _VALIDATION[1]),
        epochs=epochs,
        learning_rate=_LEARNING_RATE,
        seed=seed,
        **{"validate#handlers": []},
        **settings_of,
    )
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _engine: progress())
    with log_level(logging.WARNING, trainer.logger.name, evaluator.logger.name):
        evaluator.run()
        key = evaluator.state.key_metric_name
        before = float(evaluator.state.metrics[key])
        workflow.run()
    after = float(torch.load(folder / "last.pt", weights_only=True)["best"])
    if not after > before:
        shutil.copyfile(start.weights, folder / "models" / "model.pt")
    for left in ("last.pt", "train.log"):
        (folder / left).unlink(missing_ok=True)
    return Scores(key, before, max(before, after))
