"""Simulation settings: one distribution per parameter, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from zlib import crc32

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from qcanet_monai.errors import InputError
from qcanet_monai.simulator.distributions import Distribution
from qcanet_monai.simulator.parameters import Camera, Group, Growth, Optics, View
from qcanet_monai.simulator.parameters import Spacing as Spacing

Shape = tuple[int, int, int]
Seed = tuple[int, ...]
SHIPPED = ("simulation", "cells", "spindle")


class Recording(NamedTuple):
    """Drawn parameters of one recording."""

    view: View
    growth: Growth
    optics: Optics
    camera: Camera


GROUPS: dict[str, type[Group]] = {"view": View, "growth": Growth, "optics": Optics, "camera": Camera}
_Drawn = TypeVar("_Drawn", bound=Group)


class Simulation(BaseModel):
    """Distributions by group and parameter; parameters left out keep their defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    view: dict[str, Distribution] = {}
    growth: dict[str, Distribution] = {}
    optics: dict[str, Distribution] = {}
    camera: dict[str, Distribution] = {}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for group, model in GROUPS.items():
            for name, distribution in getattr(self, group).items():
                for end in [*distribution.ends(), *distribution.between()]:
                    try:
                        model.model_validate({name: end})
                    except ValidationError as error:
                        reason = error.errors()[0]["msg"].lower()
                        raise ValueError(f"{group}.{name} can be {end}: {reason}") from None
        return self

    def changed(self, changes: Mapping[str, Mapping[str, Any]]) -> Simulation:
        """Return a copy with the distributions of `changes` (group, name) replaced."""
        merged = {group: {**getattr(self, group), **changes.get(group, {})} for group in GROUPS}
        return Simulation.model_validate({**merged, **{g: c for g, c in changes.items() if g not in GROUPS}})

    def with_tissue(self, share: float | None) -> Simulation:
        """Return a copy with a `share` of tissues, else embryos; unchanged if None.

        Raises
        ------
        InputError
            If the share is not between 0 and 1, or the settings draw cells or spindles.
        """
        if share is None:
            return self
        drawn = self.growth["kind"].ends() if "kind" in self.growth else ["embryo"]
        others = [str(kind) for kind in drawn if kind not in ("embryo", "tissue")]
        if others:
            raise InputError(
                f"expected settings of embryos or tissues, got settings that draw {' and '.join(others)}: "
                "leave the share of tissues out, or give settings of nuclei"
            )
        if not 0 <= share <= 1:
            raise InputError(f"expected a share of tissues between 0 and 1, got {share}")
        kinds = {"embryo": 1 - share, "tissue": share}
        return self.changed({"growth": {"kind": {"choices": kinds}}})

    def draw(self, seed: Seed) -> Recording:
        """Draw one recording; each parameter has its own, independent random stream."""
        return Recording(
            self._draw("view", View, seed),
            self._draw("growth", Growth, seed),
            self._draw("optics", Optics, seed),
            self._draw("camera", Camera, seed),
        )

    def _draw(self, group: str, model: type[_Drawn], seed: Seed) -> _Drawn:
        distributions: dict[str, Distribution] = getattr(self, group)
        drawn = {name: d.draw(stream(seed, f"{group}.{name}")) for name, d in distributions.items()}
        return model.model_validate(drawn)


def stream(seed: Seed, name: str) -> np.random.Generator:
    """Return the random generator of a seed and a name."""
    return np.random.default_rng((crc32(name.encode()), len(seed), *seed))


@cache
def shipped(name: str = "simulation") -> Simulation:
    """Return shipped settings; the shipped weights were trained on "simulation"."""
    text = files("qcanet_monai.simulator").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    return Simulation.model_validate(content) if name == "simulation" else shipped().changed(content)


def read_simulation(path: str | Path | None) -> Simulation:
    """Read simulation settings from YAML; missing parameters are drawn as shipped.

    Parameters
    ----------
    path
        YAML file, or, if no such file exists, a shipped name: "simulation" (embryos), "cells" (tissue with
        stained membranes) or "spindle". None reads "simulation".

    Raises
    ------
    InputError
        If the file or name does not exist, the file is not valid YAML, or a value is not allowed.
    """
    if path is None:
        return shipped()
    if str(path) in SHIPPED and not Path(path).is_file():
        return shipped(str(path))
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"expected a simulation's YAML or one of {', '.join(SHIPPED)}, "
            f"cannot read {path}: {error.strerror or error}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"expected YAML in {path}, cannot parse the file: check its syntax") from error
    groups = ", ".join(GROUPS)
    if not isinstance(content, dict) or not all(isinstance(group, dict) for group in content.values()):
        raise InputError(f"expected the groups {groups} with named distributions in {path}, got {content!r}")
    try:
        return shipped().changed(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {where + ': ' if where else ''}{reason}") from None
