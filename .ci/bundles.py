#!/usr/bin/env python3
"""Write the bundles' configurations: python .ci/bundles.py [FOLDER].

Reads bundles/_source: one YAML file per bundle, and Jinja templates with << >> and <% %> in `shared`.
Lists of logged, exported and overridden settings are derived from the settings. FOLDER is bundles by default.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jinja2
import yaml

from qcanet_monai.bundle.sections import literal

SOURCE = Path(__file__).resolve().parents[1] / "bundles" / "_source"
SHARED = SOURCE / "shared"
COLUMN = 34  # column of inline comments
NOT_EXPORTED = {"precision"}  # for training only
NOT_LOGGED = {"bundle_root", "output_dir"}
FILES = ("train", "inference", "evaluate", "finetune", "simulated", "multi_gpu_train", "tracking")


def main() -> None:
    """Write all bundles."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE.parent
    bundles = {path.stem: read(path) for path in sorted(SOURCE.glob("*.yaml"))}
    shared = read(SHARED / "metadata.yaml")
    # bundles of several networks come last: they include the text of the others
    for name in sorted(bundles, key=lambda name: "networks" in bundles[name]):
        first = bundles.get(bundles[name].get("begins_with"), {})
        write_bundle(name, {**first, **bundles[name]}, shared, target)


def write_bundle(name: str, content: dict[str, Any], shared: dict[str, Any], target: Path) -> None:
    """Write the configuration files of one bundle."""
    configs = target / name / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {"name": name, **content}
    if "networks" in content:
        sections = {part: section(part, what, target) for part, what in content["networks"].items()}
        values |= {"sections": "".join(sections.values()).rstrip(), "first": next(iter(sections))}
    files = tuple(file for file in FILES if file != "finetune" or "finetune" in content)
    values["network_def_knobs"] = re.findall(r"(?m)^(\w+): \"@\1\"", content["network_def"])
    inference, train = (knobs(render(file, values)) for file in ("inference", "train"))
    excluded = {"dataset_dir", "output_dir", "bundle_root"} | set(content.get("not_exported", ()))
    shared_knobs = [] if "export" in content else [key for key in train if key in inference]
    values["exported"] = [key for key in shared_knobs if key not in NOT_EXPORTED | excluded]
    values["knobs"] = [key for key in train if key not in NOT_LOGGED]
    drawn = knobs(render("simulated", values))
    values["simulated_knobs"] = [key for key in drawn if key not in train]
    plumbing = {"bundle_root", "dataset_dir", "output_dir", "spacing"}
    values["overrides"] = [key for key in knobs(render("inference", values)) if key not in plumbing]
    for file in files:
        (configs / f"{file}.yaml").write_text(render(file, values), encoding="utf-8")
    inference = read(configs / "inference.yaml")
    network = {"network_def": literal(inference, inference["network_def"])}
    write_json(configs / "inference.json", network)
    write_json(configs / "metadata.json", metadata({**shared, **content["metadata"]}))
    shutil.copyfile(SHARED / "logging.conf", configs / "logging.conf")
    shutil.copyfile(SHARED / "LICENSE", target / name / "LICENSE")


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def render(file: str, values: dict[str, Any]) -> str:
    """Fill in a template and align its inline comments."""
    environment = jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    blocks = {key: value.rstrip("\n") if isinstance(value, str) else value for key, value in values.items()}
    text = environment.from_string((SHARED / f"{file}.yaml").read_text(encoding="utf-8")).render(blocks)
    lines = [aligned(line) for line in re.sub(r"\n{3,}", "\n\n", text).splitlines()]
    return "\n".join(lines) + "\n"


def aligned(line: str) -> str:
    """Move the inline comment of a setting to `COLUMN`."""
    match = re.match(r"( *\w+:(?: [^#\"]*[^#\" ])?) +# (.*)", line)
    return f"{match[1].ljust(COLUMN - 1)} # {match[2]}" if match else line


def knobs(text: str) -> list[str]:
    """Return the names of the settings at the top of a configuration."""
    head = re.split(r"(?m)^(?:# read where|device:|\+knobs:)", text)[0]
    return re.findall(r"(?m)^(\w+): ", head)


def section(name: str, what: str, target: Path) -> str:
    """Return the network of another bundle as a YAML section."""
    text = (target / name / "configs" / "inference.yaml").read_text(encoding="utf-8")
    paths = ("bundle_root", "dataset_dir", "output_dir", "spacing")
    names = [key for key in knobs(text) if key not in paths] + [
        "network_def",
        "image_preprocessing",
        "inferer",
    ]
    found = [re.search(rf"(?m)^{key}:.*\n(?:[ -].*\n)*", text) for key in names]
    body = "".join(match[0] for match in found if match)
    body = re.sub(rf"@({'|'.join(names)})\b", rf"@networks#{name}#\1", body)
    body = "".join(f"    {re.sub(' +# ', ' # ', line)}\n" for line in body.splitlines())
    return f"  {name}: # {what}\n{body}"


def metadata(fields: dict[str, Any]) -> dict[str, Any]:
    """Return metadata fields with MONAI's ``network_data_format``."""
    shape, value_range, channels = (fields.pop(key) for key in ("shape", "value_range", "channels"))
    shared = {"dtype": "float32", "is_patch_data": True}
    image = {"type": "image", "format": "magnitude", "modality": "fluorescence microscopy", "num_channels": 1}
    outputs = {"type": "image", "format": "logits", "num_channels": len(channels)}
    image |= {"spatial_shape": shape, "value_range": value_range, "channel_def": {"0": "image"}, **shared}
    names = {str(number): channel for number, channel in enumerate(channels)}
    outputs |= {"spatial_shape": shape, "value_range": [], "channel_def": names, **shared}
    return {**fields, "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": outputs}}}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON in the bundles' format."""
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
