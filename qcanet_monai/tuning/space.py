"""Search space of a study: sampling with Optuna, and checks before the start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import torch

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
    """Replace Optuna's parameter names by the bundle's keys; omit ``_`` keys."""
    return {name.partition("[")[0]: value for name, value in config.items() if not name.startswith("_")}


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
