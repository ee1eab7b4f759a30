"""Export of a training run's output folder as a bundle."""

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
        Top-level keys of the configurations and their values.

    Raises
    ------
    ModelError
        If a configuration lacks one of the keys.
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
    """Set the values of top-level keys in a YAML text; keep comments.

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
            value = json.dumps(left.pop(match["key"]))  # JSON scalars are valid YAML
            comment = match["comment"]
            line = f"{match['key']}: {value}" + (f"{match['gap']}{comment}" if comment else "")
        lines.append(line)
    if left:
        raise ModelError(
            f"expected the top-level keys {', '.join(left)} in {source}, got a file without them: add them"
        )
    return "\n".join(lines) + "\n"
