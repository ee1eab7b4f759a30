"""Schema of the study files (YAML), such as those in ``hpo/``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Value = bool | int | float | str
FEW = 64


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Domain(_Model):
    """Values of one setting: ``choices``, or a range from ``low`` to ``high``."""

    choices: list[Value] | None = Field(None, min_length=1, description="Values to choose from.")
    low: int | float | None = Field(None, description="Smallest value; integer bounds give integers.")
    high: int | float | None = Field(None, description="Largest value, inclusive.")
    log: bool = Field(False, description="Sample on a logarithmic scale.")
    step: PositiveInt | PositiveFloat | None = Field(None, description="Step between neighbouring values.")
    when: dict[str, list[Value] | Value] = Field(
        default_factory=dict, description="Condition: earlier settings and the values that enable this one."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Domain:
        if (self.choices is None) == (self.low is None and self.high is None):
            raise ValueError("give either choices or low and high")
        if self.choices is not None:
            if self.log or self.step:
                raise ValueError("log and step belong to low and high, not to choices")
            return self
        if self.low is None or self.high is None or self.low > self.high:
            raise ValueError(f"expected low <= high, got {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("expected low > 0 and no step with log")
        return self

    @property
    def whole(self) -> bool:
        """True for a range of integers."""
        return self.choices is None and all(isinstance(v, int) for v in (self.low, self.high, self.step or 1))

    def applies(self, settings: Mapping[str, Value]) -> bool:
        """Return True if the settings chosen so far fulfil ``when``."""
        wanted = ((key, v if isinstance(v, list) else [v]) for key, v in self.when.items())
        return all(key in settings and settings[key] in values for key, values in wanted)

    def holds(self, value: Value) -> bool:
        """Return True if the value lies in the domain."""
        if self.choices is not None:
            return value in self.choices
        if isinstance(value, (bool, str)) or self.low is None or self.high is None:
            return False
        if not self.low <= value <= self.high or (self.whole and not isinstance(value, int)):
            return False
        steps = (value - self.low) / self.step if self.step else 0
        return abs(steps - round(steps)) < 1e-8

    def contains(self, other: Domain) -> bool:
        """Check that every value of the other domain lies in this one, on the same scale."""
        if self.choices is not None or other.choices is not None:
            return set(other.choices or ()) <= set(self.choices or ()) and bool(other.choices)
        scale = (self.log, self.step, self.whole) == (other.log, other.step, other.whole)
        return scale and all(self.holds(end) for end in (other.low, other.high) if end is not None)

    def at(self, position: float) -> Value:
        """Return the value at a position from 0 to 1 along the choices or the range."""
        if self.choices is not None:
            return self.choices[min(int(position * len(self.choices)), len(self.choices) - 1)]
        low, high = float(self.low or 0), float(self.high or 0)
        step = self.step or (1 if self.whole and not self.log else None)
        if self.log:
            value = low * (high / low) ** position
        elif step is None:
            value = low + (high - low) * position
        else:
            steps = int((high - low) / step + 1e-8)
            value = low + step * min(int(position * (steps + 1)), steps)
        value = float(f"{value:.12g}")  # so that a given value comes back as it was written
        return round(value) if self.whole else min(max(value, low), high)

    def position(self, value: Value) -> float:
        """Return the position of a value that the domain holds; see `at`."""
        if self.choices is not None:
            return (self.choices.index(value) + 0.5) / len(self.choices)
        low, high, given = float(self.low or 0), float(self.high or 0), float(value)
        step = self.step or (1 if self.whole and not self.log else None)
        if step is not None:
            return (round((given - low) / step) + 0.5) / (int((high - low) / step + 1e-8) + 1)
        if low == high:
            return 0.0
        return math.log(given / low) / math.log(high / low) if self.log else (given - low) / (high - low)

    def values(self) -> list[Value]:
        """Return all choices, all integers of a short range, or the ends of the range."""
        if self.choices is not None:
            return list(self.choices)
        assert self.low is not None
        assert self.high is not None
        whole = range(int(self.low), int(self.high) + 1, int(self.step or 1)) if self.whole else None
        return list(whole) if whole is not None and len(whole) <= FEW else [self.low, self.high]


class Simulated(_Model):
    """Dataset simulated for the study; see ``qcanet simulate``."""

    embryos: PositiveInt
    timepoints: PositiveInt = 11
    generations: PositiveFloat | None = Field(None, description="Cell cycles; from `settings` if None.")
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    settings: str | None = Field(None, description="Shipped simulation (cells, spindle) or a YAML file.")
    seed: int = 0


class Sampler(_Model):
    """Optuna sampler that proposes settings."""

    name: Literal["tpe", "gp", "random"] = "tpe"
    startup_trials: int = Field(10, ge=0, description="Random trials before the model-based search.")
    seed: int = 0


class Scheduler(_Model):
    """Early stopping: asha keeps the best 1/reduction_factor of trials at each rung."""

    name: Literal["asha", "none"] = "asha"
    grace_epochs: PositiveInt | None = Field(None, description="Epoch of the first rung; 3 if None.")
    reduction_factor: int = Field(3, ge=2)


class Resources(_Model):
    """Resources of one trial; several GPUs train data-parallel, fractions share one."""

    cpu: PositiveFloat = 2
    gpu: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="A fraction below 1 shares a GPU; auto: what a trial needs, where there are GPUs."
    )
    processes: PositiveInt | None = Field(None, description="Training processes; one per whole GPU if None.")

    @model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        if self.gpu != "auto" and self.gpu > 1 and self.gpu != int(self.gpu):
            raise ValueError(f"expected a fraction below 1 or a whole number of GPUs, got {self.gpu:g}")
        return self

    @property
    def n_processes(self) -> int:
        """Number of training processes of a trial."""
        return self.processes or max(1, int(self.gpu if self.gpu != "auto" else 1))


class Study(_Model):
    """Search over the settings of one bundle."""

    bundle: str = Field(description="Name of a shipped bundle, or a bundle's folder.")
    data: str | Simulated | None = Field(None, description="Dataset folder, or a dataset to simulate.")
    space: dict[str, Domain | list[Domain]] = Field(min_length=1, description="Searched settings.")
    starting_points: list[dict[str, Value]] = Field(default_factory=list, description="Settings tried first.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Fixed settings of every trial.")
    sampler: Sampler = Sampler()
    scheduler: Scheduler = Scheduler()
    trials: PositiveInt = 60
    epochs: PositiveInt = Field(27, description="Full budget of a trial, in epochs.")
    hours: PositiveFloat | None = Field(None, description="Time limit in hours; no limit if None.")
    resources: Resources = Resources()
    max_concurrent: PositiveInt | None = Field(None, description="Parallel trials; as many as fit if None.")
    max_parameters: PositiveInt | None = Field(None, description="Parameter limit; larger networks fail.")
    cost_objective: bool = Field(False, description="Also minimise multiply-adds, for a Pareto front.")
    calibrate: bool = Field(False, description="Choose the best bundle's thresholds, see `qcanet calibrate`.")
    system_metrics: bool = Field(True, description="Log the load of CPU, memory and GPU of each trial.")
    max_failures: PositiveInt = Field(5, description="Trials with the same error that end the study.")
    failures: int = Field(3, ge=0, description="Maximum number of resumes after a lost process, per trial.")

    def variants(self, key: str) -> list[Domain]:
        """Return the domains of a setting; at most one applies at a time."""
        domains = self.space[key]
        return domains if isinstance(domains, list) else [domains]

    def widens(self, before: Study) -> bool:
        """Check that the space holds every value of an earlier study's space."""
        if list(self.space) != list(before.space):
            return False
        for key in self.space:
            old, new = before.variants(key), self.variants(key)
            if [d.when for d in old] != [d.when for d in new]:
                return False
            if not all(wide.contains(narrow) for wide, narrow in zip(new, old, strict=True)):
                return False
        return True

    @model_validator(mode="after")
    def _conditions_look_back(self) -> Study:
        seen: set[str] = set()
        for key in self.space:
            for domain in self.variants(key):
                unknown = set(domain.when) - seen
                if unknown:
                    raise ValueError(f"{key} needs {', '.join(sorted(unknown))} above it in space")
            variants = self.variants(key)
            points = self.combinations(*(k for domain in variants for k in domain.when))
            for domain in variants:
                if not any(domain.applies(point) for point in points):
                    raise ValueError(f"{key} is never searched: no settings above it fulfil {domain.when}")
            for point in points:
                if sum(domain.applies(point) for domain in variants) > 1:
                    raise ValueError(f"{key} has two domains for {point or 'the same condition'}")
            if key in self.settings:
                raise ValueError(f"{key} is in both space and settings: remove one")
            seen.add(key)
        return self

    @model_validator(mode="after")
    def _rungs_fit(self) -> Study:
        if self.scheduler.name == "asha" and self.first_rung > self.epochs:
            raise ValueError(f"expected grace_epochs <= {self.epochs}, got {self.first_rung}")
        return self

    @property
    def first_rung(self) -> int:
        """Epoch of ASHA's first rung: before the third epoch, scores tell little."""
        return self.scheduler.grace_epochs or min(3, self.epochs)

    def combinations(self, *keys: str) -> list[dict[str, Value]]:
        """Return all combinations of values of `keys` that the conditions allow."""
        found: list[dict[str, Value]] = [{}]
        needed = self._with_conditions(keys)
        for key in (key for key in self.space if key in needed):
            found = list(itertools.chain.from_iterable(self._extended(point, key) for point in found))
        return found

    def _with_conditions(self, keys: tuple[str, ...]) -> set[str]:
        needed: set[str] = set()
        left = [key for key in keys if key in self.space]
        while left:
            key = left.pop()
            needed.add(key)
            left += [k for domain in self.variants(key) for k in domain.when if k not in needed]
        return needed

    def _extended(self, point: dict[str, Value], key: str) -> list[dict[str, Value]]:
        domain = next((d for d in self.variants(key) if d.applies(point)), None)
        return [point] if domain is None else [{**point, key: value} for value in domain.values()]
