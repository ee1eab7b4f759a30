"""Export of a training run's output folder as a bundle."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qcanet_monai.errors import ModelError
from qcanet_monai.io import output_folder, replacing

_LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: (?P<value>[^#\n]*?))?(?P<gap>\s*)(?P<comment>#.*)?$")


def export_bundle(bundle_root: str | Path, output_dir: str | Path, knobs: Mapping[str, Any]) -> Path:
    """Copy a bundle's configuration with a run's settings; return the folder.

    The licence is copied too. Training adds the weights as ``models/model.pt``; the folder is then a model
    reference like any other.

    Parameters
    ----------
    bundle_root
        Bundle in training.
    output_dir
        Folder of the copy.
    knobs
        Keys of the configurations and their values; those of sections are nested.

    Raises
    ------
    ModelError
        If neither ``train.yaml`` nor ``inference.yaml`` has one of the keys.
    """
    source, target = Path(bundle_root).resolve(), output_folder(output_dir).resolve()
    if source == target:
        return target
    for folder in ("configs", "models"):
        output_folder(target / folder)
    for path in sorted((source / "configs").iterdir()):
        text = path.read_text(encoding="utf-8")
        if path.name == "inference.json":
            config = json.loads(text)
            _update(config["network_def"], {**knobs, **knobs.get("networks", {})})
            text = json.dumps(config, indent=4) + "\n"
        with replacing(target / "configs" / path.name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_knobs(target, knobs)
    if (source / "LICENSE").is_file():
        shutil.copyfile(source / "LICENSE", target / "LICENSE")
    return target


def write_knobs(bundle: Path, knobs: Mapping[str, Any]) -> None:
    """Set values in a bundle's configurations for training and inference.

    A key may be in one of the files only.

    Raises
    ------
    ModelError
        If neither file has one of the keys.
    """
    missing = set(flat(knobs))
    for name in ("train.yaml", "inference.yaml"):
        path, left = bundle / "configs" / name, flat(knobs)
        if path.is_file():
            text = _set(path.read_text(encoding="utf-8"), left)
            missing &= set(left)
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    _refuse(missing, bundle / "configs")


def set_knobs(text: str, knobs: Mapping[str, Any], source: Path) -> str:
    """Set the values of keys in a YAML text; keep comments.

    Keys of sections are nested mappings, or written ``networks#nsn#depth``.

    Raises
    ------
    ModelError
        If the text lacks a key.
    """
    left = flat(knobs)
    text = _set(text, left)
    _refuse(left, source)
    return text


def _set(text: str, left: dict[str, Any]) -> str:
    """Set values in a YAML text; remove from `left` what the text has."""
    lines: list[str] = []
    place: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            indent = len(match["indent"])
            place = [*(one for one in place if one[0] < indent), (indent, match["key"])]
            path = "#".join(key for _, key in place)
            if match["value"] and path in left:
                value = json.dumps(left.pop(path))  # JSON scalars are valid YAML
                comment = f"{match['gap']}{match['comment']}" if match["comment"] else ""
                line = f"{match['indent']}{match['key']}: {value}{comment}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def flat(knobs: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Name the values of nested mappings ``networks#nsn#depth``."""
    found: dict[str, Any] = {}
    for key, value in knobs.items():
        found |= flat(value, f"{at}{key}#") if isinstance(value, Mapping) else {f"{at}{key}": value}
    return found


def single_values(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten knobs as `flat` does, and lists too: ``betas#0``, ``betas#1``."""
    found: dict[str, Any] = {}
    for key, value in flat(knobs).items():
        items = {f"{key}#{place}": one for place, one in enumerate(value)} if isinstance(value, list) else {}
        found |= items or {key: value}
    return found


def _update(config: dict[str, Any], knobs: Mapping[str, Any]) -> None:
    for key in config.keys() & knobs.keys():
        if isinstance(config[key], dict) and isinstance(knobs[key], Mapping):
            _update(config[key], knobs[key])
        else:
            config[key] = knobs[key]


def _refuse(missing: Iterable[str], source: Path) -> None:
    if names := sorted(missing):
        raise ModelError(
            f"expected the keys {', '.join(names)} in {source}, got a configuration without them: add them"
        )
