"""Training handler for checkpoints, resuming, best weights and early stopping.

One handler does all four, because a resumed run must restore their common state. With separate handlers, the
first validation after a resume would overwrite better weights.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from qcanet_monai.errors import ModelError
from qcanet_monai.io import output_folder, replacing
from qcanet_monai.nn.average import Average, bare
from qcanet_monai.nn.devices import rank
from qcanet_monai.renamed import refuse_former_options


class Checkpoints:
    """Handler that saves checkpoints, resumes from the last one and stops early.

    Writes ``last.pt`` each epoch and ``models/model.pt`` at each best validation. Attach it to the trainer
    after the validation handler. If ``last.pt`` exists, training resumes after its epoch; a finished run
    stops at once.

    Parameters
    ----------
    folder
        Folder of both files; created if absent.
    network, optimizer, lr_scheduler
        Objects to save and restore.
    evaluator
        Validation engine; its key metric (higher is better) selects the best weights.
    average
        Moving average to write to ``models/model.pt``; the network's own weights if None.
    patience
        Validations without a better metric before training stops; None for no limit.
    export
        Function called before the first epoch, once `folder` is known to belong to this run.
    """

    def __init__(
        self,
        folder: str | Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        evaluator: Any,
        average: Average | None = None,
        patience: int | None = None,
        export: Callable[[], object] = lambda: None,
    ) -> None:
        self.folder = Path(folder)
        self.network, self.optimizer, self.lr_scheduler = network, optimizer, lr_scheduler
        self.average = average or Average(network)
        self.evaluator, self.patience, self.export = evaluator, patience, export
        self.best = -math.inf
        self.best_epoch = 0
        self.stalled = 0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        self.average.attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)

    def _start(self, engine: Engine) -> None:
        refuse_former_options(sys.argv)
        last = self.folder / "last.pt"
        if last.exists():
            self._resume(engine, last)
        if rank() == 0:
            output_folder(self.folder / "models")
            self.export()

    def _resume(self, engine: Engine, last: Path) -> None:
        state = torch.load(last, map_location="cpu", weights_only=True)
        try:
            bare(self.network).load_state_dict(state["network"])
        except RuntimeError as error:
            raise ModelError(
                f"{last} belongs to another architecture than this configuration: give another output_dir, "
                "or set depth, channels and kernel_size to the values of the first run"
            ) from error
        self.average.load_state_dict(state.get("average", {}))
        self.optimizer.load_state_dict(state["optimizer"])
        self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        self.best, self.best_epoch, self.stalled = state["best"], state["best_epoch"], state["stalled"]
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        engine.logger.info("resumed from %s after epoch %d", last, state["epoch"])
        if state["epoch"] >= (engine.state.max_epochs or 0) or self._out_of_patience():
            engine.logger.info(
                "nothing left to train: best metric %.4f at epoch %d", self.best, self.best_epoch
            )
            engine.terminate()

    def _epoch_completed(self, engine: Engine) -> None:
        metric = self._metric() if self.evaluator.state.epoch == engine.state.epoch else None
        improved = metric is not None and metric > self.best
        if improved:
            self.best, self.best_epoch, self.stalled = float(metric or 0), engine.state.epoch, 0
        elif metric is not None:
            self.stalled += 1
        if rank() == 0:
            if improved:
                self._write("models/model.pt", bare(self.average.network).state_dict())
            self._write("last.pt", self._state(engine))
        if self._out_of_patience():
            engine.logger.info("no better validation for %d times: stop", self.stalled)
            engine.terminate()

    def _out_of_patience(self) -> bool:
        return self.patience is not None and self.stalled >= self.patience

    def _metric(self) -> float:
        value = float(self.evaluator.state.metrics[self.evaluator.state.key_metric_name])
        return value if math.isfinite(value) else -math.inf

    def _state(self, engine: Engine) -> dict[str, Any]:
        return {
            "network": bare(self.network).state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stalled": self.stalled,
        }

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        with replacing(self.folder / name) as temporary:
            torch.save(dict(content), temporary)
