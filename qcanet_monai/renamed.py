"""Settings and options renamed since version 0.1; the old names work until 0.3."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcanet_monai.errors import ModelError

SETTINGS = {
    "affine": "affine_probability",
    "apart_um": "min_distance_um",
    "average": "ema_decay",
    "balance": "focal_weight",
    "border": "border_weight",
    "border_um": "border_width_um",
    "clean_statistics": "update_bn_batches",
    "counts": "count_from_density",
    "diameter": "max_diameter_voxels",
    "flips": "test_time_augmentation",
    "grid": "isotropic_spacing_um",
    "initial": "pretrained",
    "labelling": "to_instances",
    "labels_on_grid": "instances_on_network_grid",
    "membrane_voxels": "membrane_width_voxels",
    "passes": "n_samples",
    "patches": "patches_per_volume",
    "peak": "min_peak",
    "rotations": "rotation_probability",
    "smallest": "min_size",
    "smallest_share": "min_relative_intensity",
    "tissue": "tissue_fraction",
    "volumes": "volumes_per_epoch",
}
_PARAMETERS = ("apart_um", "grid", "peak", "smallest")  # of components in an inference.yaml
_MODULES = {
    f"qcanet_monai.core.{name}.": f"qcanet_monai.core.instances.{name}."
    for name in ("cell_classes", "density", "single_object")
} | {"qcanet_monai.inference.predictor.load_weights": "qcanet_monai.inference.weights.load_weights"}
_INTERVAL = {"--interval": "--interval-min"}
_SEGMENT = {
    **_INTERVAL,
    "--grid": "--isotropic-spacing-um",
    "--flips": "--test-time-augmentation",
    "--no-flips": "--no-test-time-augmentation",
    "--uncertainty": "--n-samples",
}
_TRACK = {
    "--reach": "--max-distance-um",
    "--daughters": "--max-splitting-distance-um",
    "--gap": "--max-frame-gap",
}
OPTIONS = {
    "adapt": {"--twins": "--n-matches"},
    "criteria": _INTERVAL,
    "segment": _SEGMENT,
    "simulate": {"--tissue": "--tissue-fraction"},
    "track": _TRACK,
    "volume": _INTERVAL,
}


def renamed(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return settings by their current names, and print a notice of old ones."""
    found = {SETTINGS.get(key, key): value for key, value in settings.items()}
    _notice([key for key in settings if key in SETTINGS], where)
    return found


def renamed_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Rename keys, references and modules in an ``inference.yaml`` of version 0.1."""
    old = [key for key in config if key in SETTINGS]
    if not old:
        return config
    text = json.dumps(_parameters(config), default=str)
    for before, after in _MODULES.items():
        text = text.replace(before, after)
    text = re.sub(rf"@({'|'.join(SETTINGS)})\b", lambda match: f"@{SETTINGS[match[1]]}", text)
    _notice(old, where)
    return {SETTINGS.get(key, key): value for key, value in json.loads(text).items()}


def refuse_former_options(command: Sequence[str]) -> None:
    """Refuse old option names of ``monai.bundle``, which ignores unknown options.

    The options of other programs are not checked; `command` is ``sys.argv``.

    Raises
    ------
    ModelError
        If an old name is used.
    """
    if not command or Path(command[0]).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return
    for argument in command[1:]:
        name = argument.removeprefix("--").partition("=")[0]
        if argument.startswith("--") and name in SETTINGS:
            raise ModelError(f"expected --{SETTINGS[name]}, got its former name --{name}: use the new name")


def former_parts(folder: Path) -> dict[str, Path]:
    """Return the folders of networks inside a bundle of version 0.1, by name."""
    names = ("nsn", "ndn")
    return {name: folder / name for name in names} if (folder / names[0] / "configs").is_dir() else {}


def _parameters(value: Any) -> Any:
    if isinstance(value, dict):
        ours = str(value.get("_target_", "")).startswith("qcanet_monai.")
        names = {key: SETTINGS[key] if ours and key in _PARAMETERS else key for key in value}
        return {names[key]: _parameters(one) for key, one in value.items()}
    return [_parameters(one) for one in value] if isinstance(value, list) else value


def _notice(old: list[str], where: str) -> None:
    if old:
        names = ", ".join(f"{key} is now {SETTINGS[key]}" for key in old)
        print(f"qcanet: {where}: {names}; the old names will be removed in 0.3", file=sys.stderr)


def renamed_options(arguments: Sequence[str]) -> list[str]:
    """Replace former option names; print a one-line notice for each."""
    names = OPTIONS.get(arguments[0], {}) if arguments else {}
    found = []
    for argument in arguments:
        option, sign, value = argument.partition("=")
        if option in names:
            print(f"qcanet: {option} is now {names[option]}; old name removed in 0.3", file=sys.stderr)
            argument = f"{names[option]}{sign}{value}"
        found.append(argument)
    return found
