"""What a training has to say after each epoch."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events


class EpochValues:
    """Collects the losses of an epoch; called at its end, gives its values.

    Parameters
    ----------
    evaluator
        The validation's engine.
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
        """Mean loss, learning rate and, where this epoch was validated, ``validation_NAME`` per metric."""
        values = {"loss": sum(self._losses) / max(1, len(self._losses))}
        self._losses.clear()
        values["learning_rate"] = engine.optimizer.param_groups[0]["lr"]
        if self.evaluator.state.epoch == engine.state.epoch:  # else its metrics are an earlier epoch's
            metrics = self.evaluator.state.metrics.items()
            values |= {f"validation_{name}": float(value) for name, value in metrics}
        return values


class StepArguments:
    """What a learning rate's schedule is told at each of its steps: nothing, or the evaluator's key metric.

    Parameters
    ----------
    schedule
        Its name: ``plateau`` waits for the metric, which is 0 before the first validation, and counts epochs,
        not validations.
    evaluator
        The validation's engine.
    """

    def __init__(self, schedule: str, evaluator: Any) -> None:
        self.schedule, self.evaluator = schedule, evaluator

    def __call__(self, _engine: Engine) -> tuple[float, ...]:
        """The arguments of ``step``."""
        if self.schedule != "plateau":
            return ()
        state = self.evaluator.state
        return (float(state.metrics.get(state.key_metric_name, 0.0)),)
