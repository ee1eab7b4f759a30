"""Warm start of a study with the trials of other studies."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError
from qcanet_monai.training.export import flat
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.ledger import Ledger
from qcanet_monai.tuning.space import settings_of
from qcanet_monai.tuning.storage import joined
from qcanet_monai.tuning.study import Study, Value


@dataclass(frozen=True)
class Known:
    """Trial of another study: parameters of Optuna, and the last result."""

    config: dict[str, Value]
    result: dict[str, Any]


def known_trials(
    references: Sequence[str | Path], storage: str | Path, study: Study, bundle: Bundle
) -> list[Known]:
    """Read the trials of other studies that this study's sampler can learn from.

    Prints a line per study with the number of trials, and of those outside the space.

    Parameters
    ----------
    references
        Folders of studies, or their names below `storage`.
    study, bundle
        Study to start, and its bundle.

    Raises
    ------
    StudyError
        If a study does not exist, or trained another bundle, for other epochs or with other settings, so that
        its scores do not compare.
    """
    found = []
    default = {**bundle.training, **flat(bundle.training)}
    for reference in references:
        folder = _find(reference, storage)
        other = folder.study
        _check_same(folder, other, study, bundle)
        inside, outside = [], 0
        for entry in Ledger(folder.root / "ledger.jsonl").entries.values():
            if entry.status != "over" or entry.retry or not entry.results:
                continue
            values = {**default, **other.settings, **settings_of(entry.config)}
            config = _inside(study, values)
            fixed = {key: study.settings.get(key, default.get(key)) for key in other.space}
            if config is None or any(values.get(k) != v for k, v in fixed.items() if k not in study.space):
                outside += 1
            else:
                inside.append(Known(config, entry.results[-1]))
        left = f", {outside} lie outside the space" if outside else ""
        about = f"{len(inside)} trials of {folder.name}, trained on {folder.data}{left}"
        print(f"qcanet: warm start with {about}", file=sys.stderr)
        found += inside
    return found


def _find(reference: str | Path, storage: str | Path) -> StudyFolder:
    place, _, name = str(reference).rstrip("/").rpartition("/")
    for folder in (StudyFolder(place or ".", name), StudyFolder(storage, str(reference))):
        if folder.begun and (folder.root / "ledger.jsonl").is_file():
            return folder
    raise StudyError(
        f"expected a study to warm-start from, found none in {reference} or "
        f"{joined(str(storage), str(reference))}"
    )


def _check_same(folder: StudyFolder, other: Study, study: Study, bundle: Bundle) -> None:
    """Refuse a study whose scores mean something else."""
    name = Bundle.find(other.bundle).name
    if name != bundle.name:
        raise StudyError(f"expected a study of {bundle.name} to warm-start from, {folder.name} is of {name}")
    if other.epochs != study.epochs:
        raise StudyError(
            f"expected a study of {study.epochs} epochs to warm-start from, {folder.name} has {other.epochs}"
        )
    free = {*study.space, *other.space}
    default = {**bundle.training, **flat(bundle.training)}
    for key in sorted({*study.settings, *other.settings} - free):
        ours, theirs = (one.settings.get(key, default.get(key)) for one in (study, other))
        if ours != theirs:
            raise StudyError(
                f"expected {key} {ours!r} in a study to warm-start from, {folder.name} trained with "
                f"{theirs!r}"
            )


def _inside(study: Study, values: Mapping[str, Any]) -> dict[str, Value] | None:
    """Return Optuna's parameters for a trial's settings; None outside the space."""
    config: dict[str, Value] = {}
    chosen: dict[str, Value] = {}
    for key in study.space:
        domain = next((d for d in study.variants(key) if d.applies(chosen)), None)
        if domain is None:
            continue
        if key not in values or not domain.holds(values[key]):
            return None
        chosen[key] = config[study.parameter(key, domain)] = values[key]
    return config
