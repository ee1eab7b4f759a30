"""Study files: reading, and errors that name the key to correct."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from qcanet_monai.errors import StudyError
from qcanet_monai.renamed import renamed
from qcanet_monai.tuning.study import Domain, Resources, Sampler, Scheduler, Simulated, Study

SUFFIX = ".yaml"


def study_path(reference: str | Path) -> Path:
    """Find a study's file by path or shipped name; raise StudyError if missing."""
    path = Path(reference)
    if path.is_file():
        return path
    folder = Path(str(files("qcanet_monai.hpo").joinpath(".")))
    shipped = folder / f"{reference}{SUFFIX}"
    if path.name == str(reference) and shipped.is_file():
        return shipped
    names = ", ".join(sorted(p.stem for p in folder.glob(f"*{SUFFIX}")))
    raise StudyError(f"expected a study's file or one of {names}, got {str(reference)!r}")


def read_study(path: Path) -> Study:
    """Read and validate a study's file.

    Raises StudyError if the file is not YAML, has unknown or missing keys, or contradicts itself.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StudyError(f"expected a mapping of settings in {path}, got {type(content).__name__}")
    for part in ("space", "settings"):
        if isinstance(content.get(part), dict):
            content[part] = renamed(content[part], f"{path}, {part}")
    points = content.get("starting_points")
    if isinstance(points, list) and all(isinstance(point, dict) for point in points):
        content["starting_points"] = [renamed(point, f"{path}, starting points") for point in points]
    for key, domain in (content.get("space") or {}).items() if isinstance(content.get("space"), dict) else ():
        alone = domain if isinstance(domain, list) else [domain]
        if alone and not any(isinstance(one, dict) for one in alone):
            raise StudyError(f"{path}: space.{key}: expected a domain, write {{choices: {alone}}}")
    study = validated(content, str(path))
    _check_settings(study, path)
    return study


class _Loader(yaml.SafeLoader):
    """Safe YAML loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merge = "tag:yaml.org,2002:merge"  # `<<` may stand beside the keys that it brings
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
        twice = [key for index, key in enumerate(keys) if key in keys[:index]]
        if twice:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"the key {twice[0]} is given twice in the mapping from line {line} on")
        return super().construct_mapping(node, deep)


def _check_settings(study: Study, path: Path) -> None:
    """Refuse settings that the bundle lacks, before anything slow is imported."""
    folder = Path(str(files("qcanet_monai.bundles").joinpath(study.bundle)))
    file = (folder if folder.is_dir() else Path(study.bundle)) / "configs" / "train.yaml"
    if not file.is_file():
        return  # a wrong bundle has an error of its own
    try:
        known = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return  # so has a damaged one
    for part, given in (("space", study.space), ("settings", study.settings)):
        for key in given:
            if isinstance(known, dict) and key.split("#")[0] not in known:
                raise StudyError(f"{path}, {part}: {unknown_setting(study.bundle, key, known)}")


def unknown_setting(bundle: str, key: str, known: Mapping[str, Any]) -> str:
    """Return the message for a setting that a bundle's configuration `known` lacks."""
    plain = [name for name, value in known.items() if not isinstance(value, dict)]
    hint = "" if "#" in key else did_you_mean(key, plain)
    return f"{bundle} has no setting {key}{hint or ': choose from ' + ', '.join(sorted(plain))}"


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return ", did you mean X?" for a word close to a known one, else an empty text."""
    close = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {close[0]}?" if close else ""


def validated(content: Mapping[str, Any], where: str) -> Study:
    """Return a study from plain data; `where` begins the message of a StudyError."""
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"{where}: {_first(error, content)}") from error


def _first(error: ValidationError, content: Any) -> str:
    """Return the first error in one line; in a union, the most deeply nested error."""
    details = [(_place(content, detail), detail) for detail in error.errors(include_url=False)]
    place, worst = max(details, key=lambda d: (len(d[0]), d[1]["type"] in ("extra_forbidden", "value_error")))
    name = ".".join(place)
    if worst["type"] == "extra_forbidden":
        models: tuple[type[BaseModel], ...] = (Study, Domain, Simulated, Sampler, Scheduler, Resources)
        hint = did_you_mean(place[-1], {field for model in models for field in model.model_fields})
        return f"unknown key {name}{hint or ': remove it'}"
    reason = worst["msg"].removeprefix("Value error, ")
    return f"{name}: {reason}" if name else reason


def _place(content: Any, detail: ErrorDetails) -> list[str]:
    """Return the keys that lead to an error, without pydantic's branches of a union."""
    place = []
    for part in detail["loc"]:
        try:
            content = content[part]
        except (LookupError, TypeError):
            if detail["type"] != "missing" or part != detail["loc"][-1]:
                continue
        place.append(str(part))
    return place
