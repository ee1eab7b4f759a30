"""Values logged after each epoch, and arguments of schedule steps."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events


class EpochValues:
    """Collector of losses; call it at an epoch's end to get the epoch's values.

    `evaluator` is the validation engine.
    """

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator
        self._losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)

    def _iteration(self, engine: Engine) -> None:
        self._losses.append(float(engine.state.output[0]["loss"]))

    def __call__(self, engine: Engine) -> dict[str, float]:
        """Return ``loss``, ``learning_rate`` and, if validated, ``validation_NAME``."""
        values = {"loss": sum(self._losses) / max(1, len(self._losses))}
        self._losses.clear()
        values["learning_rate"] = engine.optimizer.param_groups[0]["lr"]
        if self.evaluator.state.epoch == engine.state.epoch:  # else the metrics are of an earlier epoch
            metrics = self.evaluator.state.metrics.items()
            values |= {f"validation_{name}": float(value) for name, value in metrics}
        return values


class StepArguments:
    """Arguments of a schedule's ``step``: none, or the evaluator's key metric.

    Parameters
    ----------
    schedule
        Name of the schedule. ``plateau`` takes the metric, 0 before the first validation; its patience counts
        epochs, not validations.
    evaluator
        Validation engine.
    """

    def __init__(self, schedule: str, evaluator: Any) -> None:
        self.schedule, self.evaluator = schedule, evaluator

    def __call__(self, _engine: Engine) -> tuple[float, ...]:
        """Return the arguments of ``step``."""
        if self.schedule != "plateau":
            return ()
        state = self.evaluator.state
        return (float(state.metrics.get(state.key_metric_name, 0.0)),)
