"""The moving average of a network's weights over its training steps, often better than the last ones."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qcanet_monai.errors import ModelError


class Average:
    """Exponential moving average of weights and batch statistics (Polyak & Juditsky 1992).

    ``Checkpoints`` attaches it to the trainer; validate `network`, whose weights it keeps.

    Parameters
    ----------
    network
        The network in training.
    decay
        Share of the average that stays at each step; 0 averages nothing.

    Attributes
    ----------
    network : Module
        The averaged network; the one in training itself where nothing is averaged.

    Raises
    ------
    ModelError
        If the decay is not at least 0 and below 1.
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise ModelError(f"expected a decay of the average of at least 0 and below 1, got {decay}")
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
        """What a checkpoint keeps; empty where nothing is averaged."""
        return self._model.state_dict() if self._model is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; one without an average begins it with the network's own weights."""
        if self._model is None:
            return
        if state:
            self._model.load_state_dict(state)
        else:
            self._model.module.load_state_dict(self._trained.state_dict())


def bare(network: nn.Module) -> nn.Module:
    """The network itself, within the wrapper of a distributed training or not."""
    return network.module if isinstance(network, DistributedDataParallel) else network
