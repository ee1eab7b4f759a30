"""Exponential moving average of a network's weights during training."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qcanet_monai.errors import ModelError


class Average:
    """Exponential moving average of weights and batch-norm statistics.

    Averaging follows Polyak & Juditsky (1992). ``Checkpoints`` attaches the average to the trainer. Validate
    `network`, not the network in training.

    Parameters
    ----------
    network
        Network in training.
    decay
        Fraction of the average kept at each step; 0 disables averaging.

    Attributes
    ----------
    network : Module
        The averaged network; the network in training if `decay` is 0.

    Raises
    ------
    ModelError
        If `decay` is not in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise ModelError(f"expected an EMA decay of at least 0 and below 1, got {decay}")
        self._trained = bare(network)
        self._model = None
        if decay:
            average = get_ema_multi_avg_fn(decay)
            self._model = AveragedModel(self._trained, multi_avg_fn=average, use_buffers=True)
        self.network: nn.Module = self._model.module if self._model else network

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if self._model is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)

    def _step(self, _engine: Engine) -> None:
        assert self._model is not None
        self._model.update_parameters(self._trained)

    def state_dict(self) -> dict[str, Any]:
        """Return the average's state for a checkpoint; empty if `decay` is 0."""
        return self._model.state_dict() if self._model is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the average; an empty `state` restarts from the network's weights."""
        if self._model is None:
            return
        if state:
            self._model.load_state_dict(state)
        else:
            self._model.module.load_state_dict(self._trained.state_dict())


def bare(network: nn.Module) -> nn.Module:
    """Return the network without its DistributedDataParallel wrapper, if any."""
    return network.module if isinstance(network, DistributedDataParallel) else network
