"""Training of one trial in a Ray worker, with a checkpoint after each epoch."""

from __future__ import annotations

import logging
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ray import tune

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import QCANetError, causes, root_cause
from qcanet_monai.io.suppress_logs import log_level
from qcanet_monai.nn.cost import cost_of
from qcanet_monai.training.checkpoints import Checkpoints
from qcanet_monai.training.epochs import EpochValues
from qcanet_monai.tuning.space import settings_of
from qcanet_monai.tuning.storage import local_copy
from qcanet_monai.tuning.system_metrics import SystemMetrics

RESUME = "_resume"  # key of a trial's configuration: checkpoint of an earlier session, or None
WORST = 0.0  # of IoU and F-measure
Report = Callable[[dict[str, Any]], None]
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Plan:
    """Settings shared by all trials of a study.

    Parameters
    ----------
    bundle
        Bundle to train.
    settings
        Fixed values of the bundle's keys.
    objective
        Key metric of the bundle.
    epochs
        Full budget of a trial.
    threads
        Torch threads per process.
    place
        URI of the bundle for nodes that lack its folder.
    processes
        Training processes per trial.
    max_parameters
        Networks with more parameters fail without training; no limit if None.
    system_metrics
        Measure the load of the machine.
    """

    bundle: Bundle
    settings: Mapping[str, Any]
    objective: str
    epochs: int
    threads: int
    place: str = ""
    processes: int = 1
    max_parameters: int | None = None
    system_metrics: bool = False

    def overrides(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the bundle's keys for a trial."""
        return {**self.settings, **settings_of(config), "epochs": self.epochs, "val_interval": 1}


class TrialError(Exception):
    """Failure of one trial that does not affect other trials."""


def train_trial(config: Mapping[str, Any], plan: Plan) -> None:
    """Train one trial for Ray Tune; continue from a checkpoint if there is one.

    Ray holds the checkpoint of a trial whose process was lost, `config` that of an earlier session. Errors
    are reported as results, so Ray repeats only trials whose process is lost.
    """

    def report(values: Mapping[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        values = {**values, **costs, "pid": os.getpid(), "host": socket.gethostname()}
        told = {plan.objective: values[plan.objective], "epoch": values["epoch"], "report": values}
        tune.report(told, checkpoint=checkpoint)

    costs: dict[str, Any] = {}
    try:
        parameters, multiply_adds = network_cost(plan.bundle, plan.overrides(config))
        costs |= {"parameters": parameters, "multiply_adds": multiply_adds}
        if plan.max_parameters is not None and parameters > plan.max_parameters:
            raise TrialError(f"{parameters:,} parameters, at most {plan.max_parameters:,} are allowed")
        with tempfile.TemporaryDirectory(prefix="qcanet-trial-") as output:
            checkpoint, earlier = tune.get_checkpoint(), config.get(RESUME)
            if checkpoint is None and earlier is not None:
                checkpoint = tune.Checkpoint(earlier)
            if checkpoint is not None:
                checkpoint.to_directory(output)
            train(
                plan,
                plan.overrides(config),
                Path(output),
                lambda values: report(values, tune.Checkpoint.from_directory(output)),
            )
    except Exception as error:
        reason, retry = failure_of(error)
        # a finite value, because Ray and Optuna reject NaN
        report(
            {
                plan.objective: WORST,
                "epoch": 0,
                "failure": reason,
                "retry": retry,
                "too_large": reason.startswith(OUT_OF_MEMORY[0]),
            }
        )
    finally:
        if torch.cuda.is_available():  # the next trial reuses the worker
            torch.cuda.empty_cache()


def failure_of(error: BaseException) -> tuple[str, bool]:
    """Return why a trial failed, and whether the cause lies outside its settings."""
    for cause in causes(error):
        if isinstance(cause, TrialError):
            return str(cause), False
        message = str(cause)
        if isinstance(cause, MemoryError) or any(text in message for text in OUT_OF_MEMORY):
            return f"out of memory: {message.splitlines()[0]}" if message else "out of memory", False
    root = root_cause(error)
    lines = str(root).splitlines()
    own = isinstance(root, QCANetError)
    return (lines[0] if own and lines else f"{type(root).__name__}: {lines[0] if lines else ''}"), True


def network_cost(bundle: Bundle, overrides: Mapping[str, Any]) -> tuple[int, int]:
    """Compute the parameters and multiply-adds of the bundle's network."""
    parser = bundle.training_parser(**overrides)
    return cost_of(partial(parser.get_parsed_content, "network_def"))


def finish_trial(settings: Mapping[str, Any], plan: Plan, output: str) -> list[dict[str, Any]]:
    """Train an early-stopped trial to its full budget, from its state in `output`.

    `output` is a folder or the URI of one. Returns the values reported after each additional epoch.
    """
    results: list[dict[str, Any]] = []
    with local_copy(output) as folder:
        train(plan, plan.overrides(settings), Path(folder), results.append)
    return results


def train(plan: Plan, overrides: Mapping[str, Any], output: Path, report: Report) -> None:
    """Train the bundle in `output`, or resume; call `report` after each epoch."""
    torch.set_num_threads(plan.threads)
    overrides = {**overrides, "output_dir": str(output)}
    if not plan.bundle.folder.is_dir():  # another node, without the folder of studies
        with local_copy(plan.place) as folder:
            train(replace(plan, bundle=Bundle(Path(folder))), overrides, output, report)
        return
    with _others(plan, overrides):
        workflow = plan.bundle.workflow(*_overlays(plan), **overrides)
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        evaluator = workflow.parser.get_parsed_content("validate#evaluator")
        system = SystemMetrics() if plan.system_metrics else None
        handlers = workflow.parser.get_parsed_content("train#handlers")
        checkpoints = next(handler for handler in handlers if isinstance(handler, Checkpoints))
        _Reporter(plan.objective, evaluator, checkpoints, report, system).attach(trainer)
        try:
            with log_level(logging.WARNING, trainer.logger.name, evaluator.logger.name):
                workflow.run()
        finally:
            if system is not None:
                system.stop()
            idist.finalize()  # otherwise ignite treats the next trial as distributed
            workflow.finalize()


class _Reporter:
    """Handler that reports each epoch and fails on a non-finite loss.

    The objective is the best validation so far, which belongs to the weights that the bundle keeps.
    """

    def __init__(
        self,
        objective: str,
        evaluator: Any,
        checkpoints: Checkpoints,
        report: Report,
        system: SystemMetrics | None = None,
    ) -> None:
        self.objective, self.checkpoints, self.report, self.system = objective, checkpoints, report, system
        self.values = EpochValues(evaluator)
        self.voxels = 0

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after the handlers that validate and write checkpoints."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        self.values.attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)

    def _iteration(self, engine: Engine) -> None:
        output = engine.state.output[0]
        self.voxels += output["image"].shape.numel()
        loss = float(output["loss"])
        if not math.isfinite(loss):
            raise TrialError(f"the loss became {loss} in epoch {engine.state.epoch}")

    def _epoch_started(self, _engine: Engine) -> None:
        self.begun, self.voxels = time.perf_counter(), 0

    def _epoch_completed(self, engine: Engine) -> None:
        values = self.values(engine)
        best = self.checkpoints.best
        if not math.isfinite(best):
            raise TrialError(f"{self.objective} is not finite in epoch {engine.state.epoch}")
        seconds = time.perf_counter() - self.begun
        own = {self.objective: best, "epoch": engine.state.epoch, "epoch_seconds": seconds, "failure": ""}
        load = {} if self.system is None else self.system.take()
        self.report({**own, "voxels_per_second": self.voxels / seconds, **values, **load})


def _overlays(plan: Plan) -> tuple[str, ...]:
    return ("multi_gpu_train",) if plan.processes > 1 else ()


@contextmanager
def _others(plan: Plan, overrides: Mapping[str, Any]) -> Iterator[None]:
    """Start the other processes of a data-parallel trial; this process is rank 0."""
    if plan.processes == 1:
        yield
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(plan.processes)}
    ranks = [{**common, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(plan.processes)]
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--bundle_root", str(plan.bundle.folder), "--logging_file"]
    command += [
        "False",
        "--config_file",
        str([f"{plan.bundle.folder}/configs/{n}.yaml" for n in ("train", *_overlays(plan))]),
    ]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    others = [subprocess.Popen(command, env=os.environ | rank) for rank in ranks[1:]]
    before = dict(os.environ)
    os.environ.update(ranks[0])
    try:
        yield
        # a failed process also fails rank 0 through their collective steps, so exit codes do not matter
        for other in others:
            with suppress(subprocess.TimeoutExpired):
                other.wait(timeout=60)
    finally:
        for other in others:
            other.kill()
        os.environ.clear()
        os.environ.update(before)
