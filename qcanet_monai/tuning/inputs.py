"""Inputs of a study: dataset, settings on every node, resources of a trial."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from getpass import getuser
from pathlib import Path
from typing import Any

import ray

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError
from qcanet_monai.io.dataset import SUBSETS, split
from qcanet_monai.registry.data import Data, describe_data
from qcanet_monai.tuning.space import check_data
from qcanet_monai.tuning.study import Simulated, Study


def given_data(study: Study, data: str | Path | None, bundle: Bundle) -> Path | None:
    """Check and return an existing dataset; None if the study simulates its data."""
    if data is None and isinstance(study.data, Simulated):
        return None
    given = data if data is not None else study.data
    if given is None or isinstance(given, Simulated):
        raise StudyError("the study names no data: give --data DIR, or run `qcanet simulate DIR`")
    files_of(study, given, bundle)
    return Path(given).resolve()


def files_of(study: Study, data: str | Path, bundle: Bundle) -> list[str]:
    """List the images and ground-truth files of both subsets."""
    items = [item for subset in subsets(study, data, bundle).values() for item in subset]
    check_data(study, bundle.training, items)
    return [path for item in items for path in item.values()]


def subsets(study: Study, data: str | Path, bundle: Bundle) -> dict[str, list[dict[str, str]]]:
    """List the images and labels of the subsets ``train`` and ``validation``."""
    knobs = bundle.training
    keys = {"folds": "folds", "fold": "fold", "by": "split_by", "datalist": "datalist"}
    default = {"split_by": "embryo", "datalist": None}  # absent in bundles of earlier versions
    options: dict[str, Any] = {
        name: study.settings.get(key, knobs.get(key, default.get(key))) for name, key in keys.items()
    }
    return {subset: split(data, knobs["target"], subset, **options) for subset in SUBSETS}


def datasets_of(study: Study, data: str | Path, bundle: Bundle) -> list[Data]:
    """Describe the subsets for MLflow; trials are judged on the last one."""
    found = subsets(study, data, bundle)
    if "fold" in study.space:  # each trial has other subsets
        every = [item for items in found.values() for item in items]
        return [describe_data(data, every, subset="all folds", context="training")]
    contexts = dict(zip(SUBSETS, ("training", "validation"), strict=True))
    return [
        describe_data(data, items, subset=subset, context=contexts[subset]) for subset, items in found.items()
    ]


def absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make the datalist's path absolute, because each trial has its own folder."""
    found = dict(settings)
    if found.get("datalist"):
        found["datalist"] = str(Path(found["datalist"]).resolve())
    return found


def check_resources(
    study: Study, resources: dict[str, float], address: str | None, stage: Callable[[str], None]
) -> None:
    """Refuse a machine that is too small for a trial; announce a wait on a cluster."""
    cpu, gpu = study.resources.cpu, 0.0 if study.resources.gpu == "auto" else study.resources.gpu
    has = f"{resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU"
    if address is None and (resources.get("CPU", 0) < cpu or resources.get("GPU", 0) < gpu):
        raise StudyError(
            f"a trial needs {cpu:g} CPU and {gpu:g} GPU, this machine has {has}: lower the study's resources "
            "or give --address"
        )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpu and node.get("GPU", 0) >= gpu for node in nodes):
        stage(
            f"waiting for a node with {cpu:g} CPU and {gpu:g} GPU for a trial; the cluster has {has} in all"
        )


def cache_folder(cache: str | Path | None) -> Path:
    """Return the folder for preprocessed volumes, below the temporary folder if None."""
    return Path(cache or Path(tempfile.gettempdir()) / f"qcanet-{getuser()}").resolve()
