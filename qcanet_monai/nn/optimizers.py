"""Optimisers and learning-rate schedules, selected by name."""

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
    """Build an optimiser; sgd uses `momentum`, adam and adamw use `betas` and `eps`.

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
    """Build a learning-rate schedule for `steps` optimiser steps, by name.

    ``constant`` keeps the rate. ``one_cycle`` raises the rate linearly over the fraction `warmup` of the
    steps, then lowers it along a cosine to the fraction `floor` (Smith & Topin 2018, without the momentum
    cycle). ``steps`` divides the rate by 10 every `every` epochs; `epochs` is the number of epochs in
    `steps`. These rates depend on the step only, and ``one_cycle`` stays at the floor after the last step. A
    run resumed with more epochs therefore follows the longer curve.

    ``plateau`` multiplies the rate by `factor`, down to `lowest`, after more than `patience` calls of
    ``step(metric)`` without a higher metric. Call it with the validation metric, not per optimiser step.

    Raises
    ------
    ModelError
        If the name is unknown, or ``steps`` lacks `epochs` or has an `every` below 1.
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
                f"expected epochs and every of at least 1 for the schedule 'steps', got epochs {epochs} "
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
