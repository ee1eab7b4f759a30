"""State of a study and of its trials as plain data."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ray.tune.experiment import Trial

from qcanet_monai.tuning.space import settings_of
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
    def over(self) -> bool:
        """True if the trial has ended."""
        return self.status in ("finished", "stopped", "failed")

    @property
    def rank(self) -> tuple[int, float]:
        """Sort key: epochs before value, because unequal budgets do not compare."""
        return (self.epoch, -1.0 if self.value is None else self.value)


def state_of(trial: Trial, objective: str, epochs: int, *, over: bool = False) -> TrialState:
    """Convert a Ray trial; `over` marks an end that Ray has not recorded yet."""
    last = trial.last_result or {}
    failure = str(last.get("failure") or "")
    if trial.status == Trial.ERROR:
        failure = failure or _reason(trial)
    epoch = int(last.get("epoch", 0))
    if over or trial.status in (Trial.ERROR, Trial.TERMINATED):
        status = "failed" if failure or not last else "finished" if epoch >= epochs else "stopped"
    else:
        status = "running" if trial.status == Trial.RUNNING else "waiting"
    return TrialState(
        id=trial.trial_id,
        settings=settings_of(trial.config),
        status=status,
        epoch=epoch,
        value=last.get(objective),
        parameters=last.get("parameters"),
        multiply_adds=last.get("multiply_adds"),
        seconds=float(last.get("time_total_s", 0.0)),
        failure=failure,
    )


def _reason(trial: Trial) -> str:
    """Return the last line of the error that Ray recorded."""
    path = Path(trial.error_file) if trial.error_file else None
    text = path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "its process was lost"


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
