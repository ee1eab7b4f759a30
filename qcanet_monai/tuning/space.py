"""Search space of a study: sampling with Optuna, and checks before the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import torch

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError, root_cause
from qcanet_monai.tuning.study import Domain, Study, Value

# set by the study in every trial
RESERVED = {"bundle_root", "dataset_dir", "output_dir", "cache_dir", "epochs", "val_interval", "target"}


class Space:
    """Search space for Optuna's define-by-run interface, with conditional settings."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def __call__(self, trial: optuna.Trial) -> None:
        """Sample every setting that applies from `trial`."""
        settings: dict[str, Value] = {}
        for key in self.study.space:
            for domain in self.study.variants(key):
                if domain.applies(settings):
                    settings[key] = _suggest(trial, self.study.parameter(key, domain), domain)


def _suggest(trial: optuna.Trial, name: str, domain: Domain) -> Value:
    if domain.choices is not None:
        return trial.suggest_categorical(name, domain.choices)
    assert domain.low is not None
    assert domain.high is not None
    if domain.whole:
        step = int(domain.step or 1)
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=step, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)


def settings_of(config: Mapping[str, Value]) -> dict[str, Value]:
    """Replace Optuna's parameter names by the bundle's keys."""
    return {name.partition("[")[0]: value for name, value in config.items()}


def starting_points(study: Study) -> list[dict[str, Value]]:
    """Return the study's starting points under Optuna's parameter names.

    Raises StudyError for a setting that the space does not search, and for a value outside its domain.
    """
    return [_named(study, point) for point in study.starting_points]


def _named(study: Study, point: Mapping[str, Value]) -> dict[str, Value]:
    named: dict[str, Value] = {}
    for key, value in point.items():
        if key not in study.space:
            raise StudyError(f"starting point {dict(point)}: {key} is not searched")
        domain = next((d for d in study.variants(key) if d.applies(point)), None)
        if domain is None:
            raise StudyError(f"starting point {dict(point)}: {key} is not searched under its conditions")
        if not domain.holds(value):
            raise StudyError(f"starting point {dict(point)}: {key} {value!r} lies outside its domain")
        named[study.parameter(key, domain)] = value
    return named


def check_space(study: Study, bundle: Bundle) -> None:
    """Check that the bundle can be trained over the whole search space.

    Every key must exist in the bundle. Every choice and the ends of every range must build the network, loss,
    optimiser and preprocessing. Every patch size must suit the depth. The StudyError names the first
    impossible key or combination.
    """
    parser = bundle.training_parser()
    for key in [*study.space, *study.settings]:
        if key in RESERVED:
            raise StudyError(f"{key} is set by the study: remove it from space and settings")
        if key not in parser:
            known = ", ".join(sorted(k for k, v in parser.get().items() if not isinstance(v, dict)))
            raise StudyError(f"{bundle.folder} has no setting {key}: choose from {known}")
    starting_points(study)
    searched = [
        (key, value) for key in study.space for domain in study.variants(key) for value in domain.values()
    ]
    for key, value in [*study.settings.items(), *searched]:
        _check_kind(key, value, parser[key])
    for key, value in study.settings.items():  # alone and first, so that an error names the right key
        _check_builds({}, bundle, key, value)
    _check_patches(study, parser.get())
    for key, value in searched:
        _check_builds(study.settings, bundle, key, value)


def _check_patches(study: Study, knobs: Mapping[str, Any]) -> None:
    keys = ("depth", "patch_size")
    if not set(keys) <= knobs.keys():
        return
    for point in study.combinations(*keys):
        settings = {**knobs, **study.settings, **point}
        depth, patch = (int(settings[key]) for key in keys)
        if patch % 2**depth or patch < 2 ** (depth + 1):
            raise StudyError(
                f"depth {depth} is too deep for patch_size {patch}: expected a multiple of {2**depth} of at "
                f"least {2 ** (depth + 1)}; narrow the space, or add a `when`"
            )


def _check_builds(settings: Mapping[str, Any], bundle: Bundle, key: str, value: Any) -> None:
    fixed = {"network": "$@network_def", "lr_scheduler#steps": 1}
    parser = bundle.training_parser(**{**settings, key: value, **fixed})
    try:
        with torch.device("meta"):  # no computation, no allocation
            for part in ("network_def", "loss_function", "optimizer_def", "lr_scheduler", "preprocessing"):
                parser.get_parsed_content(part)
    except Exception as error:  # a configuration can raise any error
        reason = str(root_cause(error)).splitlines()[0]
        raise StudyError(f"{key} {value!r} cannot be built: {reason}") from error


def _check_kind(key: str, value: Any, default: Any) -> None:
    if isinstance(value, str) and isinstance(default, (int, float)) and not isinstance(default, bool):
        raise StudyError(f"expected a number for {key}, got the text {value!r}: write 1.0e-3, not 1e-3")
