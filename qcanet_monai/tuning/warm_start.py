"""Warm start of a study with the trials of other studies."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError
from qcanet_monai.registry.runs import find_runs, run_knobs, run_score
from qcanet_monai.registry.store import connect, suppress_mlflow_logs
from qcanet_monai.training.export import single_values
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.ledger import Known, Ledger
from qcanet_monai.tuning.space import RESERVED
from qcanet_monai.tuning.storage import joined
from qcanet_monai.tuning.study import Study, Value

_ANY = RESERVED | {"seed", "workers", "cache_rate", "tracking_uri", "experiment_name", "run_name", "validate"}


@dataclass(frozen=True)
class _Other:
    """Another study: settings that all its trials share, and each trial's own."""

    name: str
    data: str
    epochs: int
    fixed: Mapping[str, Any]
    trials: Sequence[tuple[Mapping[str, Any], dict[str, Any]]]


def known_trials(
    references: Sequence[str | Path], storage: str | Path, uri: str, study: Study, bundle: Bundle
) -> list[Known]:
    """Read the trials of other studies that this study's sampler can learn from.

    Prints a line per study with the number of trials, and of those outside the space.

    Parameters
    ----------
    references
        Folders or URIs of studies, or names of studies below `storage` or in MLflow.
    uri
        MLflow store.
    study, bundle
        Study to start, and its bundle.

    Raises
    ------
    StudyError
        If a study does not exist, or trained another bundle, for other epochs or with other settings, so that
        its scores do not compare.
    """
    found = []
    ours = single_values({**bundle.training, **study.settings})
    for reference in references:
        other = _local(str(reference), str(storage), bundle) or _logged(str(reference), uri, bundle)
        if other is None:
            raise StudyError(
                f"expected a study of {bundle.name} to warm-start from, found none in {reference}, in "
                f"{joined(str(storage), str(reference))} or in MLflow"
            )
        _check_same(other, study, ours)
        inside, outside = [], 0
        for settings, result in other.trials:
            values = {**other.fixed, **settings}
            own = _inside(study, values)
            fixed = settings.keys() - study.space.keys()
            if own is None or any(values.get(key) != ours.get(key) for key in fixed):
                outside += 1
            else:
                inside.append(Known(own, result))
        left = f", {outside} lie outside the space" if outside else ""
        about = f"{len(inside)} trials of {other.name}, trained on {other.data}{left}"
        print(f"qcanet: warm start with {about}", file=sys.stderr)
        found += inside
    return found


def _local(reference: str, storage: str, bundle: Bundle) -> _Other | None:
    """Read a study's folder, None if there is none."""
    place, _, name = reference.rstrip("/").rpartition("/")
    for folder in (StudyFolder(place or ".", name), StudyFolder(storage, reference)):
        if folder.begun and (folder.root / "ledger.jsonl").is_file():
            break
    else:
        return None
    other = folder.study
    theirs = Bundle.find(other.bundle).name
    if theirs != bundle.name:
        raise StudyError(f"expected a study of {bundle.name} to warm-start from, {name} is of {theirs}")
    trials = [
        (entry.settings, entry.results[-1])
        for entry in Ledger(folder.root / "ledger.jsonl").entries.values()
        if entry.status == "over" and not entry.retry and entry.results
    ]
    values = single_values({**bundle.training, **other.settings})
    fixed = {key: value for key, value in values.items() if key not in other.space}
    return _Other(folder.name, folder.data, other.epochs, fixed, trials)


def _logged(name: str, uri: str, bundle: Bundle) -> _Other | None:
    """Read a study of the bundle from MLflow, None if there is none."""
    with suppress_mlflow_logs():
        client = connect(uri)
        experiment = client.get_experiment_by_name(f"qcanet-{bundle.name}")
        tags = {"study": name, "role": "trial"}
        runs = [] if experiment is None else find_runs(client, experiment.experiment_id, tags)
        runs = [run for run in reversed(runs) if run.data.tags.get("status") in ("finished", "stopped")]
        if not runs:
            return None
        trials = []
        for run in runs:
            config = single_values(run_knobs(client, run))
            known = {*bundle.training["knobs"]} - _ANY
            knobs = {key: value for key, value in config.items() if key.split("#")[0] in known}
            epoch = int(run.data.tags["epochs"])
            result = {bundle.objective: run_score(run, bundle.objective), "epoch": epoch}
            counts = {
                k: int(run.data.params[k]) for k in ("parameters", "multiply_adds") if k in run.data.params
            }
            trials.append((knobs, {**result, **counts}))
    first, data = trials[0][0], runs[0].data.tags.get("data", "unknown data")
    fixed = {key: value for key, value in first.items() if all(one.get(key) == value for one, _ in trials)}
    searched = [({k: v for k, v in one.items() if k not in fixed}, result) for one, result in trials]
    return _Other(name, data, int(config["epochs"]), fixed, searched)


def _check_same(other: _Other, study: Study, ours: Mapping[str, Any]) -> None:
    """Refuse a study whose scores mean something else."""
    if other.epochs != study.epochs:
        raise StudyError(
            f"expected a study of {study.epochs} epochs to warm-start from, {other.name} has {other.epochs}"
        )
    for key in sorted(other.fixed.keys() - study.space.keys() - _ANY):
        if key in ours and ours[key] != other.fixed[key]:
            raise StudyError(
                f"expected {key} {ours[key]!r} in a study to warm-start from, {other.name} trained with "
                f"{other.fixed[key]!r}"
            )


def _inside(study: Study, values: Mapping[str, Any]) -> dict[str, Value] | None:
    """Return a trial's settings that the space searches; None outside the space."""
    chosen: dict[str, Value] = {}
    for key in study.space:
        domain = next((d for d in study.variants(key) if d.applies(chosen)), None)
        if domain is None:
            continue
        if key not in values or not domain.holds(values[key]):
            return None
        chosen[key] = values[key]
    return chosen
