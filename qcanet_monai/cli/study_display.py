"""Live table and summary of a study on the terminal."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from qcanet_monai.cli.options import console

if TYPE_CHECKING:
    from qcanet_monai.tuning.progress import Progress, TrialState
    from qcanet_monai.tuning.tune import Outcome

ROWS = 12


class StudyDisplay:
    """Progress of a study on stderr: a live table, or a line per ended trial."""

    def __init__(self) -> None:
        self.screen = Console(stderr=True, highlight=False)
        self.live = Live(console=self.screen, transient=True, auto_refresh=False)
        self.told: set[str] = set()
        self.begun = time.monotonic()

    def __enter__(self) -> StudyDisplay:
        if self.screen.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.screen.is_terminal:
            self.live.stop()

    def stage(self, text: str) -> None:
        """Show the current step."""
        if self.screen.is_terminal:
            self.live.update(Text(f"{text} …"), refresh=True)
        else:
            self.screen.print(f"{text} …")

    def watch(self, progress: Progress) -> None:
        """Show the progress of the trials."""
        if self.screen.is_terminal:
            self.live.update(Group(_table(progress), Text(_line(progress))), refresh=True)
            return
        for trial in progress.trials:
            if trial.over and trial.id not in self.told:
                self.told.add(trial.id)
                self.screen.print(
                    f"trial {trial.id} {_describe(trial, progress.epochs)}; {_line(progress)}", soft_wrap=True
                )

    def summary(self, outcome: Outcome) -> None:
        """Print the number of trials and the best settings."""
        trials = outcome.trials
        counts = [
            f"{sum(t.status == status for t in trials)} {status}"
            for status in ("finished", "stopped", "failed")
        ]
        console.print(f"study {outcome.folder.name}: {len(trials)} trials, {', '.join(counts)}")
        for reason, count in Counter(t.failure for t in trials if t.failure).most_common(1):
            console.print(f"{count} failed with: {reason}", soft_wrap=True)
        table = Table("setting", "best")
        for key, value in outcome.winner.settings.items():
            table.add_row(key, _short(value))
        table.add_row(outcome.objective, f"{outcome.winner.value:.4f}")
        table.add_row("parameters", f"{outcome.winner.parameters:,}")
        table.add_row("multiply-adds", f"{outcome.winner.multiply_adds or 0:.3g}")
        table.add_row("minutes", f"{(time.monotonic() - self.begun) / 60:.1f}")
        console.print(table)


def _table(progress: Progress) -> Table:
    table = Table("trial", "status", "epochs", "value", "settings")
    ranked = sorted(progress.trials, key=lambda t: (t.status != "running", tuple(-x for x in t.rank)))
    for trial in ranked[:ROWS]:
        settings = " ".join(f"{key}={_short(value)}" for key, value in trial.settings.items())
        value = "" if trial.value is None else f"{trial.value:.4f}"
        table.add_row(trial.id, trial.status, f"{trial.epoch}/{progress.epochs}", value, settings)
    return table


def _line(progress: Progress) -> str:
    over = sum(trial.over for trial in progress.trials)
    best, left = progress.best, progress.seconds_left
    parts = [f"{over} of {progress.total} trials"]
    if best is not None and best.value is not None:
        parts.append(f"best so far {best.value:.4f} after {best.epoch} epochs")
    if left is not None and over < progress.total:
        parts.append(f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left")
    return ", ".join(parts)


def _describe(trial: TrialState, epochs: int) -> str:
    if trial.failure:
        return f"failed: {trial.failure}"
    if trial.value is None:
        return f"{trial.status} before its first epoch"
    return f"{trial.status} after {trial.epoch} of {epochs} epochs at {trial.value:.4f}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
