"""Run of a study, from its file to the best bundle and the MLflow record."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from getpass import getuser
from pathlib import Path
from typing import Any

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.cluster import ray_cluster
from qcanet_monai.errors import StudyError
from qcanet_monai.io import output_folder
from qcanet_monai.io.dataset import split
from qcanet_monai.registry import provenance
from qcanet_monai.registry.store import connect, store_uri, suppress_mlflow_logs
from qcanet_monai.tuning.engine import Engine, Watch, run_trials
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.outcome import choose, describe_bundle, finish, trained, write_overlay, write_tables
from qcanet_monai.tuning.plots import write_plots
from qcanet_monai.tuning.progress import TrialState, pareto_front
from qcanet_monai.tuning.record import StudyRecord
from qcanet_monai.tuning.space import check_space
from qcanet_monai.tuning.study import Simulated, Study, read_study, study_path
from qcanet_monai.tuning.trial import Plan


@dataclass(frozen=True)
class Outcome:
    """Result of a study: its trials, the winner and the winner's bundle."""

    trials: list[TrialState]
    winner: TrialState
    bundle: Path
    bundle_name: str
    folder: Path
    data: str
    objective: str


def run_study(
    reference: str | Path,
    *,
    storage: str | Path = Path("runs/studies"),
    data: str | Path | None = None,
    tracking_uri: str | None = None,
    name: str | None = None,
    address: str | None = None,
    cache: str | Path | None = None,
    resume: bool = False,
    watch: Watch = lambda _progress: None,
    stage: Callable[[str], None] = lambda _text: None,
) -> Outcome:
    """Run a study, or its remaining trials.

    Writes all results to ``STORAGE/NAME`` and to MLflow.

    Parameters
    ----------
    reference
        Path of the study's file, or name of a shipped study.
    storage
        Folder of studies; on a cluster, shared by all nodes.
    data
        Dataset in BBBC050's layout; the study's ``data`` if None.
    tracking_uri
        MLflow store, see ``registry.store.store_uri``.
    name
        Name of the study; the stem of its file if None.
    address
        ``auto`` or ``host:port`` of a running Ray cluster; starts Ray on this machine if None.
    cache
        Folder on each node for preprocessed volumes; in the temporary folder if None.
    resume
        Continue an existing study.
    watch
        Called with the progress, about twice a second.
    stage
        Called with the name of each step.

    Raises
    ------
    QCANetError
        If the study, data, store, storage or cluster cannot be used; no trial has started then.
    StudyError
        If no trial succeeded, or MLflow lacks records at the end.

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> outcome = qcanet.tune("smoke", storage="studies", tracking_uri="sqlite:///studies.db")
    >>> len(outcome.trials), outcome.objective
    (12, 'iou')
    """
    path = study_path(reference)
    study = read_study(path)
    folder = StudyFolder(storage, name or path.stem)
    bundle = Bundle.find(study.bundle)
    stage("checking")
    check_space(study, bundle)
    uri = store_uri(tracking_uri)
    folder.check(study, resume=resume)
    given = _given_data(study, data, bundle)
    with suppress_mlflow_logs():
        connect(uri)
    output_folder(storage)
    with ray_cluster(address) as resources:
        if address is None:  # other clusters may grow
            _check_resources(study, resources)
        if not resume:
            stage("preparing the data")
            folder.begin(study, bundle, given)
        files = _files(study, folder.data, bundle)
        root = os.path.commonpath(files) if study.settings.get("datalist") else folder.data
        data_fingerprint = provenance.fingerprint(files, root)
        settings = {
            **_absolute(study.settings),
            "dataset_dir": folder.data,
            "cache_dir": str(_cache(cache) / data_fingerprint[:16]),
        }
        processes = study.resources.n_processes
        searched = Bundle(folder.bundle)
        _ = searched.training  # cached here, and sent to trials with the plan
        plan = Plan(
            bundle=searched,
            settings=settings,
            objective=bundle.objective,
            epochs=study.epochs,
            threads=max(1, int(study.resources.cpu / processes)),
            processes=processes,
            max_parameters=study.max_parameters,
        )
        facts = {
            "bundle": study.bundle,
            "data": folder.data,
            "data_sha256": data_fingerprint,
            "git_commit": provenance.git_commit(),
            **provenance.versions(),
        }
        record = StudyRecord(uri, f"qcanet-{bundle.name}", folder.name, folder.id, plan, facts)
        engine = Engine(study, plan, record, watch)
        stage("searching")
        try:
            run_trials(study, plan, folder, engine, folder.name)
            return _conclude(study, plan, folder, engine, facts, stage)
        except BaseException as error:
            record.safely(record.parent.close, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise


def _conclude(
    study: Study,
    plan: Plan,
    folder: StudyFolder,
    engine: Engine,
    facts: Mapping[str, str],
    stage: Callable[[str], None],
) -> Outcome:
    record = engine.record
    record.lost = False
    trials = engine.states()
    by_id = {trial.trial_id: trial for trial in engine.trials}
    for state in trials:  # complete what MLflow missed during the search
        for result in engine.histories.get(state.id, []):
            record.safely(record.epoch, state, result)
        record.safely(record.end, state)
    if any(not trial.over for trial in trials) or (len(trials) < study.trials and not study.hours):
        stage("interrupted: run the same command with --resume to continue")
        raise KeyboardInterrupt  # Ray caught the interrupt and saved its state
    stage("finishing the winner")
    winner = choose(trials)
    target = folder.root / "best"
    further = finish(study, plan, winner, _checkpoint(by_id[winner.id]), target)
    if winner.status != "finished":
        # an earlier run of this study may have finished the training
        epoch, value = trained(target)
        winner = replace(winner, status="finished", epoch=epoch, value=value)
        for result in further:
            record.safely(record.epoch, winner, result)
        record.safely(record.end, winner)
        trials = [winner if trial.id == winner.id else trial for trial in trials]
    describe_bundle(target, plan, winner, folder.name, facts)
    overlay = write_overlay(folder, plan, winner, study.bundle)
    table = write_tables(folder, plan, trials, winner)
    plots = write_plots(folder, plan, study)
    for state in {t.id: t for t in [winner, *pareto_front(trials)]}.values():
        source = target if state.id == winner.id else _checkpoint(by_id[state.id])
        record.safely(_log_bundle, record, state, source)
    record.safely(record.artifacts, overlay, table, folder.root / "summary.json", plots)
    best = {f"best_{plan.objective}": winner.value or 0.0, "trials": float(len(trials))}
    record.safely(record.parent.log, best, 0)
    record.safely(record.parent.describe, {}, {"best_trial": winner.id, "objective": plan.objective})
    record.safely(record.parent.close, "FINISHED")
    if record.lost:
        raise StudyError(
            f"the study in {folder.root} is complete, but its MLflow record is not: run it again with "
            "--resume when the store answers"
        )
    return Outcome(trials, winner, target, study.bundle, folder.root, folder.data, plan.objective)


def _log_bundle(record: StudyRecord, state: TrialState, source: Path) -> None:
    """Log a trial's bundle to its run, without the training state."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "bundle"
        Bundle(source).copy_to(copy)
        record.child(state).artifact(copy, "bundle")


def _checkpoint(trial: Any) -> Path:
    return Path(trial.checkpoint.path)


def _given_data(study: Study, data: str | Path | None, bundle: Bundle) -> Path | None:
    """Check and return an existing dataset; None if the study simulates its data."""
    if data is None and isinstance(study.data, Simulated):
        return None
    given = data if data is not None else study.data
    if given is None or isinstance(given, Simulated):
        raise StudyError("the study names no data: give --data DIR, or run `qcanet simulate DIR`")
    _files(study, given, bundle)
    return Path(given).resolve()


def _files(study: Study, data: str | Path, bundle: Bundle) -> list[str]:
    """List the images and ground-truth files of both subsets."""
    knobs = bundle.training
    keys = {"folds": "folds", "fold": "fold", "by": "split_by", "datalist": "datalist"}
    default = {"split_by": "embryo", "datalist": None}  # absent in bundles of earlier versions
    options: dict[str, Any] = {
        name: study.settings.get(key, knobs.get(key, default.get(key))) for name, key in keys.items()
    }
    items = [
        *split(data, knobs["target"], "train", **options),
        *split(data, knobs["target"], "validation", **options),
    ]
    return [path for item in items for path in item.values()]


def _absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make the datalist's path absolute, because each trial has its own folder."""
    found = dict(settings)
    if found.get("datalist"):
        found["datalist"] = str(Path(found["datalist"]).resolve())
    return found


def _check_resources(study: Study, resources: dict[str, float]) -> None:
    cpu, gpu = study.resources.cpu, study.resources.gpu
    if resources.get("CPU", 0) < cpu or resources.get("GPU", 0) < gpu:
        raise StudyError(
            f"a trial needs {cpu:g} CPU and {gpu:g} GPU, this machine has {resources.get('CPU', 0):g} and "
            f"{resources.get('GPU', 0):g}: lower the study's resources or give --address"
        )


def _cache(cache: str | Path | None) -> Path:
    return Path(cache or Path(tempfile.gettempdir()) / f"qcanet-{getuser()}").resolve()
