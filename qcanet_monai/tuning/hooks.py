"""Ray's hooks: a callback, a searcher and a stopper that call the running engine.

Ray pickles them at the start, so they have no state of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from qcanet_monai.tuning.search import NAME


class Hooks(Callback):
    """Ray callback that calls the running engine."""

    current: Any = None

    def on_trial_start(self, **info: Any) -> None:
        """Hand the start of a trial to the engine."""
        Hooks.current.safely("started", info["trial"])

    def on_trial_result(self, **info: Any) -> None:
        """Hand an epoch of a trial to the engine."""
        Hooks.current.safely("reported", info["trial"], info["result"])

    def on_checkpoint(self, **info: Any) -> None:
        """Hand a checkpoint to the engine."""
        Hooks.current.safely("saved", info["trial"], info["checkpoint"])

    def on_trial_complete(self, **info: Any) -> None:
        """Hand the end of a trial to the engine."""
        Hooks.current.safely("ended", info["trial"])

    on_trial_error = on_trial_complete

    def on_step_end(self, **_info: Any) -> None:
        """Let the engine show the progress."""
        Hooks.current.safely("stepped")


class Proposals(Searcher):
    """Ray searcher that asks the running engine."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of the next trial."""
        del trial_id
        found = Hooks.current.next_trial()
        return Searcher.FINISHED if found is None and Hooks.current.complete else found

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Leave the end of a trial to the engine."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str) -> None:
        """Save nothing: the ledger and Optuna's database hold the state."""


class Clock(Stopper):
    """Ray stopper that ends the search once the study's hours are used up."""

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Return True once the hours are used up."""
        return bool(Hooks.current.out_of_time)


def name_of(trial: Trial) -> str:
    """Return a trial's name in the ledger."""
    return str(trial.config[NAME])


def reason_of(trial: Trial) -> str:
    """Return the last line of the error that Ray recorded."""
    path = Path(trial.error_file) if trial.error_file else None
    text = path.read_text(encoding="utf-8", errors="replace") if path and path.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "its process was lost"
