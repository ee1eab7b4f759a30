"""Shares of a GPU for trials, from the memory of one training step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import ray
import torch

from qcanet_monai.nn.cost import memory_load
from qcanet_monai.tuning.space import largest_shape
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan

AUTO = "auto"
CONTEXT = 600e6  # bytes of a process on a GPU, before any tensor
SPARE = 1.2  # factor for fragments, and for inference on volumes larger than the largest seen
MOST = 8  # trials on one GPU


@dataclass(frozen=True)
class Measured:
    """Peak memory of one step and the memory of the GPU, in bytes."""

    peak: float
    total: float


class Packing:
    """Fraction of a GPU for each trial of a study.

    Parameters
    ----------
    study
        Study, whose ``resources.gpu`` is a number or "auto".
    plan
        Settings shared by all trials.
    gpus
        GPUs of the cluster.
    images
        Images of the dataset.
    """

    def __init__(self, study: Study, plan: Plan, gpus: float, images: Sequence[str]) -> None:
        self.study, self.plan, self.images = study, plan, images
        given = study.resources.gpu
        self.fixed = None if given == AUTO and gpus else 0.0 if given == AUTO else float(given)
        self.reference = dict(study.starting_points[0]) if study.starting_points else {}

    @property
    def packs(self) -> bool:
        """True if trials may share a GPU."""
        return self.fixed is None or 0 < self.fixed < 1

    @property
    def whole(self) -> float:
        """GPUs of a trial that shares with none."""
        return 1.0 if self.fixed is None or 0 < self.fixed < 1 else self.fixed

    def share(self, settings: Mapping[str, Any]) -> float:
        """Return the fraction of a GPU for a trial; 1 if no GPU could be measured."""
        if self.fixed is not None:
            return self.fixed
        if self.measured is None:
            return 1.0
        need = self.measured.peak * self._load(settings) / self._load(self.reference)
        return share_of(need, self.measured.total)

    @cached_property
    def measured(self) -> Measured | None:
        """Result of one step with the first starting point, on a GPU of the cluster."""
        remote = ray.remote(num_cpus=1, num_gpus=1)(dry_run)
        knobs = self.plan.bundle.training
        shape = knobs.get("window") or largest_shape(self.study, knobs, self.images)
        return ray.get(remote.remote(self.plan, self.reference, shape))

    def _load(self, settings: Mapping[str, Any]) -> float:
        parser = self.plan.bundle.training_parser(**self.plan.overrides(settings))
        build = partial(parser.get_parsed_content, "network_def")
        return memory_load(build, batch_shape(parser.get()))


def share_of(need: float, total: float) -> float:
    """Return a fraction 1/n of a GPU: n trials of `need` bytes fit in `total`."""
    fit = math.floor(total / (CONTEXT + SPARE * need))
    return round(1 / min(max(fit, 1), MOST), 4)  # Ray counts ten-thousandths


def batch_shape(knobs: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape (B, 1, Z, Y, X) of a training batch."""
    edge = knobs.get("patch_size")
    size = knobs.get("window") or (64, 64, 64) if edge is None else (edge,) * 3
    patches = int(knobs.get("patches_per_volume", 1))
    return (int(knobs["batch_size"]) * patches, 1, *(int(n) for n in size))


def dry_run(plan: Plan, settings: Mapping[str, Any], shape: Sequence[int]) -> Measured | None:
    """Train a step and run inference on a volume of zeros; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    parser = plan.bundle.training_parser(**plan.overrides(settings))
    parser["device"] = "cuda"
    network = parser.get_parsed_content("network_def").to("cuda")
    inferer = parser.get_parsed_content("train#inferer")
    parser["network"] = network
    optimizer = parser.get_parsed_content("optimizer_def")
    torch.cuda.reset_peak_memory_stats()
    try:
        outputs = inferer(torch.zeros(batch_shape(parser.get()), device="cuda"), network)
        outputs.float().square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            network.eval()
            parser.get_parsed_content("validate#inferer")(torch.zeros(1, 1, *shape, device="cuda"), network)
        peak = float(torch.cuda.max_memory_reserved())
    except torch.cuda.OutOfMemoryError:
        peak = math.inf
    total = float(torch.cuda.get_device_properties(0).total_memory)
    del network, optimizer
    torch.cuda.empty_cache()
    return Measured(peak, total)
