"""Batch-norm statistics measured without dropout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from qcanet_monai.nn.average import bare
from qcanet_monai.nn.dropout import dropouts


class UpdateBatchNorm:
    """Handler that recomputes batch-norm statistics, without dropout, for validation.

    Dropout increases the variance that a batch norm measures in training. At inference, without dropout, the
    running variance is too large ("variance shift", Li et al. 2019). Training steps do not use the running
    statistics. Attach this handler before the validation handler. Networks without dropout stay unchanged.

    Parameters
    ----------
    network
        Network to validate.
    dataloader
        Training batches with key ``image``, each (B, C, Z, Y, X).
    batches
        Maximum number of batches; 0 disables the update.
    interval
        Epochs between two validations.
    device
        Device of the network; if None, images stay on their own device.
    """

    def __init__(
        self,
        network: nn.Module,
        dataloader: Iterable[Mapping[str, Tensor]],
        batches: int,
        interval: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self.network, self.dataloader, self.batches = bare(network), dataloader, batches
        self.interval, self.device = interval, device

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if self.batches and dropouts(self.network):
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._epoch_completed)

    def _epoch_completed(self, _engine: Engine) -> None:
        layers = dropouts(self.network)
        shares = [layer.p for layer in layers]
        for layer in layers:
            layer.p = 0.0
        try:
            images = (batch[CommonKeys.IMAGE] for batch in islice(self.dataloader, self.batches))
            update_bn(images, self.network, self.device)
        finally:
            for layer, share in zip(layers, shares, strict=True):
                layer.p = share
