"""A short training of a bundle on simulated volumes, from weights that exist; the better ones are kept."""

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

_EPOCHS = 3  # validations, but fewer in a short training: each takes as long as many steps
_STEPS_BETWEEN = 20
_VALIDATION = (4, 16)  # least and most volumes to validate on, which the training never draws
_LEARNING_RATE = 1.0e-3


class Scores(NamedTuple):
    """The validation's key metric before and after; `after` is at least `before`."""

    metric: str
    before: float
    after: float


def steps_of(steps: int) -> int:
    """Optimiser steps that `fine_tune` really takes: whole epochs of them."""
    epochs = _epochs_of(steps)
    return epochs * -(-steps // epochs)


def _epochs_of(steps: int) -> int:
    return min(_EPOCHS, max(1, steps // _STEPS_BETWEEN))


def check_trainable(bundle: Bundle) -> None:
    """Refuse a bundle that has no weights, or no configuration for a training on simulated volumes.

    Raises
    ------
    ModelError
        If it lacks either.
    """
    for name in ("configs/simulated.yaml", "models/model.pt"):
        if not (bundle.folder / name).is_file():
            raise ModelError(
                f"expected a bundle with {name}, got {bundle.folder}: give one that this version trained"
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
    """Train the bundle `start` on fresh volumes into the bundle `folder`.

    Parameters
    ----------
    start
        Bundle with weights and ``configs/simulated.yaml``.
    folder
        Where the trained bundle goes.
    settings
        YAML of the simulation's distributions.
    steps
        Optimiser steps, each on two patches of two volumes.
    isotropic_spacing_um
        Edge of the network's voxels in the simulation's µm; by the nuclei's size if None.
    seed
        Fixes the volumes.
    progress
        Called after every step.

    Raises
    ------
    ModelError
        If the bundle lacks the configuration.
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
    for engine in (trainer, evaluator):
        engine.logger.setLevel(logging.WARNING)
    evaluator.run()
    key = evaluator.state.key_metric_name
    before = float(evaluator.state.metrics[key])
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _engine: progress())
    workflow.run()
    after = float(torch.load(folder / "last.pt", weights_only=True)["best"])
    if not after > before:
        shutil.copyfile(start.weights, folder / "models" / "model.pt")
    for left in ("last.pt", "train.log"):
        (folder / left).unlink(missing_ok=True)
    return Scores(key, before, max(before, after))
