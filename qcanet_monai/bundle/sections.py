"""Network sections ``networks#NAME`` of a bundle's inference configuration."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

_PART = ("network_def", "image_preprocessing", "inferer", "activation")
_DEFAULTS = {"threshold": 0.5, "min_size": 1, "min_relative_intensity": 0.0}  # read by postprocessing
_OUTSIDE = ("bundle_root", "device", "dataset_dir", "output_dir", "spacing")  # shared by all networks


def section_of(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one network as a section ``networks#NAME``, references included.

    Parameters
    ----------
    config
        Content of an ``inference.yaml`` of this network only, or with this section.
    name
        Name of the section.
    """
    if name in config.get("networks", {}):
        return copy.deepcopy(config["networks"][name])
    kept: dict[str, Any] = {}
    todo = [*_PART, *(key for key, value in config.items() if not isinstance(value, dict | list))]
    while todo:
        key = todo.pop(0)
        if key in config and key not in (*kept, *_OUTSIDE) and not key.startswith("_"):
            kept[key] = config[key]
            todo += re.findall(r"@(\w+)", json.dumps(kept[key]))
    kept = {**_DEFAULTS, **kept}
    names = "|".join(kept)
    return json.loads(re.sub(rf"@(?=(?:{names})\b)", f"@networks#{name}#", json.dumps(kept)))


def override(config: dict[str, Any], key: str, value: Any) -> bool:
    """Set a key wherever it exists, also in sections; return False if nowhere."""
    places = [place for place in (config, *config.get("networks", {}).values()) if key in place]
    for place in places:
        place[key] = value
    return bool(places)


def literal(config: Mapping[str, Any], value: Any) -> Any:
    """Replace references such as ``@networks#nsn#depth`` with their values."""
    if isinstance(value, dict):
        return {key: literal(config, one) for key, one in value.items()}
    if isinstance(value, list):
        return [literal(config, one) for one in value]
    if isinstance(value, str) and value.startswith("@"):
        found: Any = config
        for key in value[1:].split("#"):
            found = found[key]
        return literal(config, found)
    return value
