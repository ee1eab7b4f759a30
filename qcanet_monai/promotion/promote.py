"""Promotion of bundles to registered versions and champions."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qcanet_monai.bundle.bundle import Bundle, shipped
from qcanet_monai.bundle.networks import usable
from qcanet_monai.core.metrics.scores import evaluate
from qcanet_monai.errors import RegistryError
from qcanet_monai.io import read_labels, read_volume
from qcanet_monai.io.dataset import split
from qcanet_monai.io.suppress_logs import log_level
from qcanet_monai.promotion.register import log_model, model_of, register
from qcanet_monai.registry import provenance
from qcanet_monai.registry.data import Data, describe_data
from qcanet_monai.registry.runs import RunLog, find_run, run_knobs
from qcanet_monai.registry.store import connect, experiment, store_uri, suppress_mlflow_logs
from qcanet_monai.registry.studies import run_page
from qcanet_monai.registry.versions import CHAMPION, PREFIX, champion, download, fetch_version, find_version
from qcanet_monai.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SPLIT_KEYS = ("folds", "fold", "validation_volumes")


@dataclass(frozen=True)
class Promotion:
    """Result of a promotion: version and score, and those of the previous champion."""

    name: str
    version: str
    metric: str
    score: float
    previous: str | None = None
    previous_score: float | None = None


@dataclass(frozen=True)
class _Candidate:
    """Bundle and its origin."""

    bundle: Bundle
    run_id: str | None = None
    model_id: str | None = None
    version: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def promote(
    name: str,
    *,
    study: str | None = None,
    trial: str | None = None,
    bundle: str | None = None,
    version: str | None = None,
    data: str | Path | None = None,
    tracking_uri: str | None = None,
    force: bool = False,
) -> Promotion:
    """Register a candidate as champion, unless it scores worse on the same data.

    Parameters
    ----------
    name
        Name of a shipped bundle and of its registered model. Without another candidate, a bundle of several
        networks, such as qcanet, combines the champions of the networks.
    study, trial
        Name of a study, and one of its trials with the full budget; the best trial if None.
    bundle
        ``bundled`` for the shipped bundle, or a bundle's folder.
    version
        A registered version.
    data
        Dataset whose validation embryos are scored; the candidate's recorded dataset if None.
    tracking_uri
        MLflow store.
    force
        Promote without comparing.

    Raises
    ------
    RegistryError
        If the candidate does not exist, was stopped early, or scores worse than the champion.

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> _ = qcanet.simulate("embryos", embryos=2, timepoints=2, spacing=(4.0, 2.0, 2.0), workers=1)
    >>> done = qcanet.promote("nsn", bundle="bundled", data="embryos", tracking_uri="sqlite:///mlflow.db")
    >>> done.version, done.metric
    ('1', 'iou')
    """
    uri = store_uri(tracking_uri)
    with suppress_mlflow_logs():
        client = connect(uri, create=bundle is not None)
        with tempfile.TemporaryDirectory() as temporary:
            candidate = _find(client, uri, name, study, trial, bundle, version, Path(temporary))
            root = data or candidate.tags.get("data")
            if root is None:
                raise RegistryError(
                    "expected data to compare on: give --data DIR with the validation embryos"
                )
            return _promote(client, uri, name, candidate, Path(root), force)


def score_bundle(bundle: Bundle, overrides: Mapping[str, Any]) -> dict[str, float]:
    """Return a trained bundle's metrics on its validation data, key metric first.

    `overrides` are values by training configuration key, at least ``dataset_dir`` and ``output_dir``.
    """
    _ = bundle.training  # fail early without a training configuration
    workflow = bundle.workflow("evaluate", **{"validate#handlers": [], **overrides})
    workflow.initialize()
    with usable(bundle.folder / "configs/train.yaml"):
        evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    with log_level(logging.WARNING, evaluator.logger.name):
        workflow.run()
    metrics = {name: float(value) for name, value in evaluator.state.metrics.items()}
    key = evaluator.state.key_metric_name
    return {key: metrics.pop(key), **metrics}


def _promote(
    client: MlflowClient, uri: str, name: str, candidate: _Candidate, data: Path, force: bool
) -> Promotion:
    present = champion(client, name)
    sha256 = candidate.bundle.digest
    settings = {**candidate.settings, "dataset_dir": str(data)}
    metric, score = _score(candidate.bundle, settings)
    previous = None
    if present is not None and present.tags.get("bundle_sha256") == sha256:
        return Promotion(name, str(present.version), metric, score)
    if present is not None and not force:
        _, previous = _score(Bundle.find(fetch_version(client, uri, present)), settings)
        if not score >= previous:  # rejects NaN too
            raise RegistryError(
                f"{name} version {present.version}, the champion, has {metric} {previous:.4f} on {data}, "
                f"the candidate {score:.4f}: not promoted; use --force to promote it"
            )
    made = candidate.version
    if made is None:
        judged = _judged_on(candidate.bundle, settings)
        on = describe_data(data, judged, subset="validation", context="validation")
        made = _register(client, uri, name, candidate, {metric: score}, on, sha256)
    for tag, value in {metric: f"{score:.6f}", "compared_on": str(data)}.items():
        client.set_model_version_tag(name, made, tag, value)
    client.set_registered_model_alias(name, CHAMPION, made)
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, _about(name))
    return Promotion(name, str(made), metric, score, str(present.version) if present else None, previous)


def _register(
    client: MlflowClient,
    uri: str,
    name: str,
    candidate: _Candidate,
    scores: Mapping[str, float],
    on: Data,
    sha256: str,
) -> str:
    """Register the candidate's logged model; a candidate without one gets one."""
    place = experiment(client, uri, f"qcanet-{name}")
    tags = {"git_commit": provenance.git_commit(), **candidate.tags, "bundle_sha256": sha256}
    if candidate.run_id is None:
        key = {"role": "promotion", "bundle_sha256": sha256}
        title = f"{candidate.tags.get('bundle', name)} {sha256[:8]}"
        run = RunLog(client, place, key, title, tags=provenance.origin(f"qcanet promote {name}"))
        run.log_data([on])
        run.close("FINISHED")
    else:
        run = RunLog(client, place, {}, "", found=client.get_run(candidate.run_id))
    model_id = candidate.model_id
    if model_id is None:
        model_id = log_model(client, run, name, bundle=candidate.bundle, tags=tags)
    known = {
        (metric.key, metric.dataset_digest) for metric in client.get_logged_model(model_id).metrics or ()
    }
    if not {(key, on.digest) for key in scores} <= known:  # a study may have measured it on the same data
        run.score(scores, int(candidate.tags.get("epochs", 0)), model_id=model_id, data=on)
    card = candidate.bundle.folder / "docs" / "README.md"
    link = f"[Run]({run_page(run.experiment_id, run.id)})"
    measured = ", ".join(f"{key} {value:.4f}" for key, value in scores.items())
    about = card.read_text(encoding="utf-8") if card.is_file() else ""
    text = f"{link}; {measured} on {on.name}.\n\n{about}"
    made = register(client, uri, name, model_id, run_id=run.id, tags=tags, description=text)
    return str(made.version)


def _about(name: str) -> str:
    """Return the description of a registered model."""
    description = Bundle.find(name).metadata["description"]
    option = name if name in ("nsn", "ndn") else "model"
    return (
        f"{description}\n\nThe version with the alias `{CHAMPION}` is the best one. Segment with it: "
        f"`qcanet segment IMAGES --out OUT --{option} models:/{name}@{CHAMPION}`; in Python "
        f'`qcanet_monai.load("models:/{name}@{CHAMPION}")`.'
    )


def _find(
    client: MlflowClient,
    uri: str,
    name: str,
    study: str | None,
    trial: str | None,
    bundle: str | None,
    version: str | None,
    temporary: Path,
) -> _Candidate:
    if name not in shipped():
        raise RegistryError(f"expected {', '.join(shipped())}, got {name!r}")
    given = sum(one is not None for one in (study, bundle, version))
    base = Bundle.find(name)
    if base.networks != ("",) and not given and trial is None:
        return _joined(client, uri, base, temporary / name)
    if given != 1:
        raise RegistryError("expected exactly one of --study, --bundle and --version")
    if bundle is not None:
        return _Candidate(Bundle.find(bundle, bundled=name), tags={"bundle": bundle})
    if version is not None:
        found = find_version(client, f"{PREFIX}{name}/{version}")
        folder = fetch_version(client, uri, found)
        return _Candidate(Bundle.find(folder), found.run_id, version=found.version, tags=found.tags)
    return _of_study(client, uri, name, str(study), trial, temporary)


def _of_study(
    client: MlflowClient, uri: str, name: str, study: str, trial: str | None, temporary: Path
) -> _Candidate:
    experiment_id = experiment(client, uri, f"qcanet-{name}")
    parent = find_run(client, experiment_id, {"study": study, "role": "study"})
    if parent is None or parent.info.status != "FINISHED":
        state = "none" if parent is None else f"one that is {parent.info.status}"
        raise RegistryError(f"expected a finished study {study} of {name} in {uri}, found {state}")
    wanted = trial or parent.data.tags["best_trial"]
    run = find_run(client, experiment_id, {"study_id": parent.data.tags["study_id"], "trial_id": wanted})
    if run is None:
        raise RegistryError(f"study {study} has no trial {wanted}")
    tags = run.data.tags
    if tags.get("status") != "finished":
        raise RegistryError(
            f"trial {wanted} of study {study} {tags.get('status')} after {tags.get('epochs')} epochs: "
            "only a trial with its full budget can be promoted"
        )
    model_id = model_of(client, run.info.run_id)
    if model_id is not None:
        source = f"{client.get_logged_model(model_id).artifact_location}/artifacts/bundle"
    elif any(item.path == "bundle" for item in client.list_artifacts(run.info.run_id)):  # earlier versions
        source = f"{run.info.artifact_uri}/bundle"
    else:
        raise RegistryError(f"trial {wanted} of study {study} left no bundle: it is not on the Pareto front")
    folder = download(uri, source, temporary / "bundle")
    config = run_knobs(client, run)
    return _Candidate(
        Bundle(folder),
        run.info.run_id,
        model_id,
        tags=_lineage(run),
        settings={key: config[key] for key in SPLIT_KEYS if key in config},
    )


def _lineage(run: Run) -> dict[str, str]:
    kept = ("study", "trial_id", "data", "data_sha256", "git_commit", "epochs")
    return {k: run.data.tags[k] for k in kept if k in run.data.tags}


def _joined(client: MlflowClient, uri: str, base: Bundle, folder: Path) -> _Candidate:
    """Combine the champions of a bundle's networks in a copy of the bundle."""
    parts: dict[str, Bundle | None] = {}
    tags: dict[str, str] = {}
    for name in base.networks:
        found = find_version(client, f"{PREFIX}{name}@{CHAMPION}")
        parts[name] = Bundle.find(fetch_version(client, uri, found))
        tags |= {f"{name}_version": str(found.version), "data": found.tags.get("compared_on", "")}
    joined = base.with_parts(parts).copy_to(folder)
    return _Candidate(joined, tags={key: value for key, value in tags.items() if value})


def _score(bundle: Bundle, settings: Mapping[str, Any]) -> tuple[str, float]:
    """Return the name and value of the bundle's metric on the validation embryos."""
    if bundle.networks == ("",):  # others are judged with their own thresholds
        with tempfile.TemporaryDirectory() as output:
            scores = score_bundle(bundle, {**settings, "output_dir": output, "cache_rate": 0.0})
        return next(iter(scores.items()))
    segmenter, values = Segmenter(bundle), []
    for item in _judged_on(bundle, settings):
        volume, truth = read_volume(item["image"]), read_labels(item["label"])
        values.append(evaluate(segmenter(volume).labels, truth.array, spacing=volume.spacing)["seg"])
    return "seg", float(np.nanmean(values))


def _judged_on(bundle: Bundle, settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """List the images and labels that a bundle is scored on."""
    known = {**(bundle.training if bundle.networks == ("",) else {"target": "QCANet"}), **settings}
    options = {key: known[key] for key in ("folds", "fold", "datalist") if key in known}
    by, at_most = known.get("split_by", "embryo"), known.get("validation_volumes")
    return split(known["dataset_dir"], known["target"], "validation", **options, by=by, at_most=at_most)
