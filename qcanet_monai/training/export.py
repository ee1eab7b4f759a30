"""A training's output folder as a bundle of its own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcanet_monai.errors import ModelError
from qcanet_monai.io import output_folder, replacing

_DEFAULT = re.compile(r"^(?P<key>\w+): (?P<value>[^#\n]*?)(?P<gap>\s*)(?P<comment>#.*)?$")


def export_bundle(bundle_root: str | Path, output_dir: str | Path, knobs: Mapping[str, Any]) -> Path:
    """Copy a bundle's configuration and licence, its knobs set to those of the training.

    The weights follow when training writes ``models/model.pt``; from then on the folder is a model
    reference like any other.

    Parameters
    ----------
    bundle_root
        The bundle that is trained.
    output_dir
        Where the copy goes.
    knobs
        Top-level keys of the configurations and their values.

    Returns
    -------
    Path
        The output folder.

    Raises
    ------
    ModelError
        If the inference configuration lacks a knob.
    """
    source, target = Path(bundle_root).resolve(), output_folder(output_dir).resolve()
    if source == target:
        return target
    for folder in ("configs", "models"):
        output_folder(target / folder)
    for path in sorted((source / "configs").iterdir()):
        text = path.read_text(encoding="utf-8")
        if path.name in ("train.yaml", "inference.yaml"):
            text = set_knobs(text, knobs, path)
        elif path.name == "inference.json":
            config = json.loads(text)
            config["network_def"] |= {key: knobs[key] for key in knobs.keys() & config["network_def"].keys()}
            text = json.dumps(config, indent=4) + "\n"
        with replacing(target / "configs" / path.name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if (source / "LICENSE").is_file():
        shutil.copyfile(source / "LICENSE", target / "LICENSE")
    return target


def set_knobs(text: str, knobs: Mapping[str, Any], source: Path) -> str:
    """Replace the values of top-level keys in a YAML text, comments kept.

    Raises
    ------
    ModelError
        If a key is not at the text's top level.
    """
    left = dict(knobs)
    lines = []
    for line in text.splitlines():
        match = _DEFAULT.match(line)
        if match and match["key"] in left:
            value = json.dumps(left.pop(match["key"]))  # JSON's scalars are YAML's
            comment = match["comment"]
            line = f"{match['key']}: {value}" + (f"{match['gap']}{comment}" if comment else "")
        lines.append(line)
    if left:
        raise ModelError(
            f"expected the top-level keys {', '.join(left)} in {source}, found none of that name"
        )
    return "\n".join(lines) + "\n"
