"""State of a study and of its trials as plain data."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qcanet_monai.tuning.study import Value


@dataclass(frozen=True)
class TrialState:
    """State of one trial.

    Parameters
    ----------
    settings
        Searched settings by the bundle's keys.
    status
        ``waiting``, ``running``, ``finished`` (full budget), ``stopped`` (early) or ``failed``.
    epoch
        Number of completed epochs.
    value
        Best objective so far; None before the first epoch.
    parameters, multiply_adds
        Cost of the network; None before the first report.
    seconds
        Training time.
    """

    id: str
    settings: Mapping[str, Value]
    status: str
    epoch: int = 0
    value: float | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    seconds: float = 0.0
    failure: str = ""

    @property
    def title(self) -> str:
        """Name for people: the number, then settings that are whole numbers or words."""
        words = [self.id]
        for key, value in self.settings.items():
            *part, name = key.split("#")
            prefix = f"{part[-1]}." if part else ""  # networks#nsn#depth
            if isinstance(value, str):
                words.append(f"{prefix}{value}")
            elif isinstance(value, int) and not isinstance(value, bool):
                words.append(f"{prefix}{name[0]}{value}")
        return " ".join(words)

    @property
    def over(self) -> bool:
        """True if the trial has ended."""
        return self.status in ("finished", "stopped", "failed")

    @property
    def rank(self) -> tuple[int, float]:
        """Sort key: epochs before value, because unequal budgets do not compare."""
        return (self.epoch, -1.0 if self.value is None else self.value)


@dataclass(frozen=True)
class Progress:
    """Progress of a study at one moment."""

    trials: Sequence[TrialState]
    total: int
    epochs: int
    begun: float = field(default_factory=time.time)
    deadline: float | None = None

    @property
    def best(self) -> TrialState | None:
        """Best trial among those with the most epochs."""
        return best_of(self.trials)

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left in seconds; None before a trial has ended."""
        over = sum(trial.over for trial in self.trials)
        if not over:
            return None
        left = (time.time() - self.begun) / over * (self.total - over)
        return left if self.deadline is None else min(left, max(0.0, self.deadline - time.time()))


def best_of(trials: Sequence[TrialState]) -> TrialState | None:
    """Return the best trial with the most epochs; None if no trial has a value."""
    sound = [trial for trial in trials if trial.status != "failed" and trial.value is not None]
    return max(sound, key=lambda trial: trial.rank, default=None)


def pareto_front(trials: Sequence[TrialState]) -> list[TrialState]:
    """Return Pareto-optimal finished trials (value, multiply-adds), cheapest first."""
    full = [trial for trial in trials if trial.status == "finished"]
    full.sort(key=lambda trial: (trial.multiply_adds or 0, -(trial.value or 0.0)))
    front: list[TrialState] = []
    for trial in full:
        if not front or (trial.value or 0.0) > (front[-1].value or 0.0):
            front.append(trial)
    return front
