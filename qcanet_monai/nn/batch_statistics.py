"""What the batch norms of a network with dropout should take for granted where nothing is dropped."""

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
    """Takes the batch norms' statistics again without dropout, before each validation.

    In training, dropout adds to the variance that a batch norm sees; in use nothing is dropped, and its
    running variance is too large (the "variance shift" of Li et al. 2019). No training step reads the running
    statistics. Attach it before the handler that validates; it leaves a network without dropout alone.

    Parameters
    ----------
    network
        The one that is validated.
    dataloader
        Of the training: batches with ``image`` (B, C, Z, Y, X).
    batches
        How many it looks at, at most; 0 leaves the statistics as they are.
    interval
        Epochs between two validations.
    device
        Where the network is; the images' own if None.
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
