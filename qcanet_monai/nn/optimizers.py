"""Optimisers and learning-rate schedules by name, so that one knob of a bundle chooses them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from qcanet_monai.errors import ModelError

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "one_cycle", "steps", "plateau")


def build_optimizer(
    name: str,
    params: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """Optimiser by name; `momentum` is read by sgd, `betas` and `eps` by adam and adamw.

    Raises
    ------
    ModelError
        If the name is unknown.
    """
    if name == "sgd":
        return SGD(params, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    if name == "adam":
        return Adam(params, lr=learning_rate, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)
    if name == "adamw":
        return AdamW(params, lr=learning_rate, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)
    raise ModelError(f"expected an optimizer of {', '.join(OPTIMIZERS)}, got {name!r}")


def build_schedule(
    name: str,
    optimizer: Optimizer,
    *,
    steps: int,
    epochs: int | None = None,
    every: int = 10,
    factor: float = 0.5,
    patience: int = 15,
    lowest: float = 1e-6,
    warmup: float = 0.1,
    floor: float = 0.01,
) -> LRScheduler:
    """Learning rate over `steps` optimiser steps, by name.

    ``constant`` keeps it; ``one_cycle`` rises linearly over the share `warmup` of the steps and falls
    along a cosine to the share `floor` (Smith & Topin 2018, without the momentum's cycle). ``steps`` divides
    it by 10 every `every` of the `epochs` that the steps make up. The factor of these depends on the step
    alone, and one_cycle's stays at the floor afterwards, so a training that resumes with more epochs than it
    was begun with simply follows the longer curve.

    ``plateau`` multiplies it by `factor`, down to `lowest`, whenever the validation metric, the higher the
    better, has not risen for `patience` validations: its ``step`` is called with that metric after each of
    them, not after each optimiser step.

    Raises
    ------
    ModelError
        If the name is unknown, or ``steps`` is not told its epochs.
    """
    if name == "plateau":
        return ReduceLROnPlateau(optimizer, mode="max", factor=factor, patience=patience, min_lr=lowest)
    if name == "constant":
        return LambdaLR(optimizer, _constant)
    if name == "one_cycle":
        return LambdaLR(optimizer, _one_cycle(steps, warmup, floor))
    if name == "steps":
        if epochs is None or epochs < 1 or every < 1:
            raise ModelError(
                f"expected the schedule 'steps' to have at least 1 of epochs and every, got epochs {epochs} "
                f"and every {every}: give both"
            )
        length = steps / epochs * every
        return LambdaLR(optimizer, lambda step: 0.1 ** (step // length))
    raise ModelError(f"expected a schedule of {', '.join(SCHEDULES)}, got {name!r}")


def _constant(_step: int) -> float:
    return 1.0


def _one_cycle(steps: int, warmup: float, floor: float) -> Callable[[int], float]:
    rise = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        done = min(1.0, (step - rise) / max(1, steps - rise))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return factor
