"""Named distributions of the simulation parameters."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = float | int | str

_KINDS = ("always", "uniform", "log_uniform", "normal", "integers", "choices")


class Distribution(BaseModel):
    """Distribution of one kind; a plain value in the YAML means ``always``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    always: Value | None = None
    """Constant value."""
    uniform: tuple[float, float] | None = None
    """Lower and upper end of a uniform distribution."""
    log_uniform: tuple[float, float] | None = None
    """Lower and upper end of a log-uniform distribution, both above 0."""
    normal: tuple[float, float] | None = None
    """Mean and standard deviation of a normal distribution, clipped at three standard deviations."""
    integers: tuple[int, int] | None = None
    """Smallest and largest integer, both included."""
    choices: dict[str, float] | None = None
    """Words and their relative weights."""
    probability: float = Field(1.0, ge=0, le=1)
    """Probability of a draw from the distribution; the parameter is 0 otherwise."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"always": value} if isinstance(value, float | int | str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of {', '.join(_KINDS)}, got {' and '.join(given) or 'none'}")
        low, high = self.uniform or self.log_uniform or self.integers or (0, 0)
        if low > high:
            raise ValueError(f"expected the lower end first, got {low} and {high}")
        if self.log_uniform and low <= 0:
            raise ValueError(f"expected log_uniform with ends above 0, got {low} and {high}")
        if self.normal and self.normal[1] < 0:
            raise ValueError(f"expected a standard deviation of at least 0, got {self.normal[1]}")
        if self.choices is not None and (
            not sum(self.choices.values()) > 0 or min(self.choices.values()) < 0
        ):
            raise ValueError("expected choices with weights above 0")
        if self.probability < 1 and (self.choices or isinstance(self.always, str)):
            raise ValueError("expected no probability beside words: 0 is not a word, remove the probability")
        return self

    def ends(self) -> list[Value]:
        """Return the smallest and largest possible values, or all words."""
        if self.choices is not None:
            return list(self.choices)
        zero: list[Value] = [0] if self.probability < 1 else []
        if self.always is not None:
            return [self.always, *zero]
        if self.normal is not None:
            mean, deviation = self.normal
            return [mean - 3 * deviation, mean + 3 * deviation, *zero]
        return [*(self.uniform or self.log_uniform or self.integers or ()), *zero]

    def between(self) -> list[Value]:
        """Return values between the ends, to be validated against a parameter's field."""
        if self.integers is not None:
            low, high = self.integers
            return list(range(low, min(high, low + 100) + 1))
        spread = self.uniform or self.log_uniform or self.normal
        if spread is None:
            return []
        one, two = (float(end) for end in self.ends()[:2])
        return [one + 0.381966 * (two - one)] if one != two else []  # not an integer by chance

    def draw(self, rng: np.random.Generator) -> Value:
        """Draw one value."""
        if self.probability < 1 and rng.random() >= self.probability:
            return 0
        if self.uniform is not None:
            return float(rng.uniform(*self.uniform))
        if self.log_uniform is not None:
            return float(np.clip(np.exp(rng.uniform(*np.log(self.log_uniform))), *self.log_uniform))
        if self.normal is not None:
            mean, deviation = self.normal
            return float(np.clip(rng.normal(mean, deviation), mean - 3 * deviation, mean + 3 * deviation))
        if self.integers is not None:
            return int(rng.integers(self.integers[0], self.integers[1] + 1))
        if self.choices is not None:
            weights = np.array([*self.choices.values()], float)
            return str(rng.choice([*self.choices], p=weights / weights.sum()))
        assert self.always is not None
        return self.always
