"""Search space of a study: sampling with Optuna, and checks before the start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FixedTrial

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.core.resample import Shape, isotropic_shape
from qcanet_monai.errors import StudyError, root_cause
from qcanet_monai.io import read_volume
from qcanet_monai.io.dataset import embryo_of
from qcanet_monai.training.export import flat
from qcanet_monai.tuning.study import Domain, Study, Value
from qcanet_monai.tuning.study_file import unknown_setting

# set by the study in every trial
RESERVED = {"bundle_root", "dataset_dir", "output_dir", "cache_dir", "epochs", "val_interval", "target"}

_PARTS = ("network_def", "loss_function", "optimizer_def", "lr_scheduler", "preprocessing")


class Space:
    """Search space of a study as Optuna sees it.

    A setting with several domains is one parameter: the position, from 0 to 1, along the domain that applies.
    So the sampler learns it from all trials, not from those of one condition only.
    """

    def __init__(self, study: Study) -> None:
        self.study = study

    def __call__(self, trial: optuna.trial.BaseTrial) -> dict[str, Value]:
        """Sample every setting that applies; return them by the bundle's keys."""
        settings: dict[str, Value] = {}
        for key, domain in self._applying(settings):
            if self._shared(key):
                settings[key] = domain.at(trial.suggest_float(key, 0.0, 1.0))
            else:
                settings[key] = _suggest(trial, key, domain)
        return settings

    def parameters(self, settings: Mapping[str, Value]) -> dict[str, Value]:
        """Return Optuna's parameters of some settings.

        Raises StudyError for a setting that the space does not search, and for a value outside its domain.
        """
        found: dict[str, Value] = {}
        for key, value in settings.items():
            if key not in self.study.space:
                raise StudyError(f"{key} is not searched")
            domain = next((d for d in self.study.variants(key) if d.applies(settings)), None)
            if domain is None:
                raise StudyError(f"{key} is not searched under its conditions")
            if not domain.holds(value):
                raise StudyError(f"{key} {value!r} lies outside its domain")
            found[key] = domain.position(value) if self._shared(key) else value
        return found

    def shown(self, settings: Mapping[str, Value]) -> FixedTrial:
        """Return settings as a trial that people read, with values in place of positions.

        Several ranges of a setting are one range that holds them all. Other domains of a setting are a
        parameter each, named after its condition.
        """
        own: list[tuple[str, Domain, Value]] = []
        for key, domain in self._applying(dict(settings)):
            hull = _hull(self.study.variants(key))
            name = key if hull else f"{key}[{_condition(domain)}]"
            own.append((name, hull or domain, settings[key]))
        trial = FixedTrial({name: value for name, _, value in own})
        for name, domain, _ in own:
            _suggest(trial, name, domain)
        return trial

    def _applying(self, settings: Mapping[str, Value]) -> Iterator[tuple[str, Domain]]:
        """Yield each domain that applies; `settings` may fill up meanwhile."""
        for key in self.study.space:
            domain = next((d for d in self.study.variants(key) if d.applies(settings)), None)
            if domain is not None:
                yield key, domain

    def _shared(self, key: str) -> bool:
        return len(self.study.variants(key)) > 1


def _suggest(trial: optuna.trial.BaseTrial, name: str, domain: Domain) -> Value:
    if domain.choices is not None:
        return trial.suggest_categorical(name, domain.choices)
    assert domain.low is not None
    assert domain.high is not None
    if domain.whole:
        step = int(domain.step or 1)
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=step, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)


def _hull(variants: Sequence[Domain]) -> Domain | None:
    """Return the only domain, or the range that holds all ranges, if any."""
    if len(variants) == 1:
        return variants[0]
    lows = [domain.low for domain in variants if domain.low is not None]
    highs = [domain.high for domain in variants if domain.high is not None]
    if len(lows) < len(variants) or len({(domain.log, domain.whole) for domain in variants}) > 1:
        return None
    return Domain(low=min(lows), high=max(highs), log=variants[0].log)


def _condition(domain: Domain) -> str:
    values = {k: "|".join(map(str, v)) if isinstance(v, list) else v for k, v in domain.when.items()}
    return ",".join(f"{key}={value}" for key, value in values.items())


def settings_of(config: Mapping[str, Any]) -> dict[str, Value]:
    """Return the settings in a configuration of Ray: all but ``_`` keys."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def starting_points(study: Study) -> list[dict[str, Value]]:
    """Return the study's starting points as Optuna's parameters.

    Raises StudyError for a setting that the space does not search, and for a value outside its domain.
    """
    space, points = Space(study), []
    for point in study.starting_points:
        try:
            points.append(space.parameters(point))
        except StudyError as error:
            raise StudyError(f"starting point {dict(point)}: {error}") from None
    return points


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
            raise StudyError(unknown_setting(str(bundle.folder), key, parser.get()))
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


def _depths(knobs: Mapping[str, Any]) -> list[str]:
    """List the keys of the networks' depths."""
    keys = ("depth", *(f"networks#{name}#depth" for name in knobs.get("networks", ())))
    return [key for key in keys if key in flat(knobs)]


def _check_patches(study: Study, knobs: Mapping[str, Any]) -> None:
    for key in _depths(knobs) if "patch_size" in knobs else ():
        for point in study.combinations(key, "patch_size"):
            settings = {**flat(knobs), **study.settings, **point}
            depth, patch = int(settings[key]), int(settings["patch_size"])
            if patch % 2**depth or patch < 2 ** (depth + 1):
                raise StudyError(
                    f"{key} {depth} is too deep for patch_size {patch}: expected a multiple of {2**depth} of "
                    f"at least {2 ** (depth + 1)}; narrow the space, or add a `when`"
                )


def check_data(study: Study, knobs: Mapping[str, Any], items: Sequence[Mapping[str, str]]) -> None:
    """Check that patches and folds of a study fit its images.

    Parameters
    ----------
    knobs
        Training configuration of the bundle.
    items
        All pairs of images and labels, as ``io.dataset.split`` returns them.

    Raises
    ------
    StudyError
        If a patch is larger than the largest image along every axis, or folds outnumber what they hold out.
    """

    def largest(key: str) -> int:
        domains = study.variants(key) if key in study.space else []
        given = [value for domain in domains for value in domain.values()]
        return int(max(given or [study.settings.get(key, flat(knobs)[key])]))

    if "folds" in study.settings or "folds" in study.space:
        by_time = study.settings.get("split_by", knobs.get("split_by", "embryo")) == "time"
        embryos = Counter(embryo_of(Path(item["image"]).name) for item in items)
        units = max(embryos.values()) if by_time else len(embryos)
        if largest("folds") > units and not study.settings.get("datalist"):
            kind = "time points" if by_time else "embryos"
            raise StudyError(f"expected at most {units} folds for {units} {kind}, got {largest('folds')}")
    if "patch_size" in knobs:
        shape = largest_shape(study, knobs, [item["image"] for item in items])
        step = 2 ** max(map(largest, _depths(knobs)), default=0)
        limit = -(-max(shape) // step) * step
        if largest("patch_size") > limit:
            raise StudyError(
                f"expected a patch_size of at most {limit} for images of {' x '.join(map(str, shape))} "
                f"isotropic voxels, got {largest('patch_size')}"
            )


def largest_shape(study: Study, knobs: Mapping[str, Any], images: Sequence[str]) -> Shape:
    """Return the size (Z, Y, X) of the largest image, in isotropic voxels."""
    image = read_volume(max(images, key=lambda path: Path(path).stat().st_size))
    edge = study.settings.get("isotropic_spacing_um", knobs.get("isotropic_spacing_um"))
    return isotropic_shape(image.array.shape, spacing=image.spacing, isotropic_spacing_um=edge)


def _check_builds(settings: Mapping[str, Any], bundle: Bundle, key: str, value: Any) -> None:
    fixed = {"network": "$@network_def", "lr_scheduler#steps": 1, "train#dataset": [0]}
    parser = bundle.training_parser(**{**settings, key: value, **fixed})
    try:
        with torch.device("meta"):  # no computation, no allocation
            for part in _PARTS:
                parser.get_parsed_content(part)
        parser.get_parsed_content("train#dataloader")
    except Exception as error:  # a configuration can raise any error
        reason = str(root_cause(error)).splitlines()[0]
        raise StudyError(f"{key} {value!r} cannot be built: {reason}") from error


def _check_kind(key: str, value: Any, default: Any) -> None:
    if isinstance(value, str) and isinstance(default, (int, float)) and not isinstance(default, bool):
        raise StudyError(f"expected a number for {key}, got the text {value!r}: write 1.0e-3, not 1e-3")
