"""Run of a study, from its file to the best bundle and the MLflow record."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ray.tune import Checkpoint

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.cluster import ray_cluster
from qcanet_monai.errors import StudyError
from qcanet_monai.io import output_folder
from qcanet_monai.registry import provenance
from qcanet_monai.registry.store import connect, store_uri, suppress_mlflow_logs
from qcanet_monai.registry.studies import run_page
from qcanet_monai.tuning.engine import Engine, Watch
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.gpus import Packing
from qcanet_monai.tuning.inputs import (
    absolute,
    cache_folder,
    check_resources,
    datasets_of,
    files_of,
    given_data,
    subsets,
)
from qcanet_monai.tuning.notes import NOTE, study_note
from qcanet_monai.tuning.outcome import (
    BEST,
    calibrated,
    choose,
    describe_bundle,
    finish,
    trained,
    write_overlay,
    write_tables,
)
from qcanet_monai.tuning.pictures import chosen_volumes
from qcanet_monai.tuning.plots import write_plots
from qcanet_monai.tuning.progress import TrialState, pareto_front
from qcanet_monai.tuning.record import StudyRecord
from qcanet_monai.tuning.space import check_space
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.study_file import read_study, study_path, validated
from qcanet_monai.tuning.trial import Plan
from qcanet_monai.tuning.warm_start import known_trials


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
    page: str = ""  # address of the study's runs within MLflow's pages


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
    warm_start: Sequence[str | Path] = (),
    trials: int | None = None,
    hours: float | None = None,
    epochs: int | None = None,
    cpus: float | None = None,
    gpus: float | str | None = None,
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
        Folder of studies, on a cluster shared by all nodes, or a URI such as ``s3://bucket/studies``.
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
        Continue a started study, also with another budget or other resources.
    warm_start
        Folders or names of other studies, also in MLflow, whose trials the sampler learns from at the start.
    trials, hours, epochs, cpus, gpus
        Budget, and resources of a trial; as in the study's file if None. `gpus` may be "auto".
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
    if resume and warm_start:
        raise StudyError("expected a warm start at the start of a study only, got --resume: omit one of them")
    path = study_path(reference)
    study = _changed(read_study(path), trials, hours, epochs, cpus, gpus)
    folder = StudyFolder(storage, name or path.stem)
    stage("checking")
    bundle = Bundle.find(study.bundle)
    check_space(study, bundle)
    uri = store_uri(tracking_uri)
    folder.check(study, resume=resume, data=data)
    given = Path(folder.data) if resume else given_data(study, data, bundle)
    with suppress_mlflow_logs():
        connect(uri)
    known = known_trials(warm_start, storage, uri, study, bundle)
    if folder.remote is not None and address is not None and given is None:
        raise StudyError(
            "expected data that every node has, got a simulation and an object storage: give --data DIR"
        )
    output_folder(folder.root.parent)
    with folder.locked(), ray_cluster(address) as resources:
        folder.check(study, resume=resume, data=data)  # another process may have started it meanwhile
        check_resources(study, resources, address, stage)
        if resume:
            folder.update(study)
        else:
            stage("preparing the data")
            folder.begin(study, bundle, given, known)
        files = files_of(study, folder.data, bundle)
        root = os.path.commonpath(files) if study.settings.get("datalist") else folder.data
        data_fingerprint = provenance.fingerprint(files, root)
        settings = {
            **absolute(study.settings),
            "dataset_dir": folder.data,
            "cache_dir": str(cache_folder(cache) / data_fingerprint[:16]),
        }
        processes = study.resources.n_processes
        searched = Bundle(folder.bundle)
        _ = searched.training  # read once: trials get it with the plan
        plan = Plan(
            bundle=searched,
            settings=settings,
            objective=bundle.objective,
            epochs=study.epochs,
            place="" if folder.remote is None else folder.uri("bundle"),
            threads=max(1, int(study.resources.cpu / processes)),
            processes=processes,
            max_parameters=study.max_parameters,
            system_metrics=study.system_metrics,
        )
        facts = {
            "bundle": study.bundle,
            "data": folder.data,
            "data_sha256": data_fingerprint,
            "git_commit": provenance.git_commit(),
            **provenance.versions(),
        }
        record = StudyRecord(
            uri,
            f"qcanet-{bundle.name}",
            folder.name,
            folder.id,
            plan,
            facts | provenance.origin(f"qcanet tune {reference}"),
            datasets_of(study, folder.data, bundle),
            chosen_volumes(subsets(study, folder.data, bundle)["validation"]),
        )
        record.safely(record.describe_study, study, bundle)
        packing = Packing(study, plan, resources.get("GPU", 0), files[::2])
        engine = Engine(study, plan, folder, record, watch, packing)
        stage("searching")
        try:
            with folder.writing():
                engine.run()
                return _conclude(study, plan, folder, engine, facts, stage)
        except BaseException as error:
            record.flush()
            failed = isinstance(error, Exception)
            if failed:
                record.safely(record.parent.describe, {}, {"failure": str(error)})
            record.safely(record.parent.close, "FAILED" if failed else "KILLED")
            raise


def _changed(
    study: Study,
    trials: int | None,
    hours: float | None,
    epochs: int | None,
    cpus: float | None,
    gpus: float | str | None,
) -> Study:
    """Return the study with the budget and the resources of the command line."""
    content = study.model_dump()
    given = {"trials": trials, "hours": hours, "epochs": epochs}
    content |= {key: value for key, value in given.items() if value is not None}
    content["resources"] |= {
        key: value for key, value in {"cpu": cpus, "gpu": gpus}.items() if value is not None
    }
    return validated(content, "the options")


def _conclude(
    study: Study,
    plan: Plan,
    folder: StudyFolder,
    engine: Engine,
    facts: Mapping[str, str],
    stage: Callable[[str], None],
) -> Outcome:
    record = engine.record
    record.flush()
    record.lost = False
    trials = engine.states()
    if engine.out_of_time:
        trials = [trial if trial.over else replace(trial, status="stopped") for trial in trials]
    for state in trials:  # complete MLflow where it missed something
        for result in engine.ledger.entries[state.id].results:
            record.safely(record.epoch, state, result)
        record.safely(record.end, state)
    if any(not trial.over for trial in trials) or (len(trials) < study.trials and not engine.out_of_time):
        stage("interrupted: run the same command with --resume to continue")
        raise KeyboardInterrupt  # Ray caught the interrupt
    stage("finishing the winner")
    winner = choose(trials)
    target = folder.root / BEST
    checkpoint = engine.checkpoint_of(engine.ledger.entries[winner.id])
    if checkpoint is None:
        raise StudyError(f"the checkpoint of trial {winner.id} is missing in {folder.root}")
    further = finish(study, plan, winner, checkpoint, folder, engine.packing.whole)
    if winner.status != "finished":
        # an earlier session may have finished the training
        epoch, value = trained(target)
        winner = replace(winner, status="finished", epoch=epoch, value=value)
        for result in further:
            record.safely(record.epoch, winner, result)
        record.safely(record.end, winner)
        finished = Checkpoint.from_directory(str(target))
        record.safely(record.pictures, winner, finished, len(trials) + 1)
        record.safely(record.progress, len(trials) + 1, winner.value)
        trials = [winner if trial.id == winner.id else trial for trial in trials]
    chosen = None
    if study.calibrate:
        stage("choosing thresholds")
        chosen = calibrated(plan, target)
    describe_bundle(target, plan, winner, folder.name, facts, chosen)
    overlay = write_overlay(folder, plan, winner, study.bundle)
    table = write_tables(folder, plan, trials, winner, chosen)
    plots = write_plots(folder, plan, study)
    _log_bundles(engine, winner, target, trials)
    record.safely(record.artifacts, overlay, table, folder.root / "summary.json", plots)
    record.safely(record.write_progress)
    links = {trial.id: run_page(record.experiment_id, record.child(trial).id) for trial in trials}
    note = study_note(
        folder.name, study, plan.objective, trials, winner, links=links, data=record.data, facts=facts
    )
    facts_of_end = {"best_trial": winner.id, "objective": plan.objective, NOTE: note}
    if "failure" in record.parent.tags:  # of an earlier session
        facts_of_end["failure"] = ""
    record.safely(record.parent.describe, {}, facts_of_end)
    record.safely(record.parent.close, "FINISHED")
    if record.lost:
        raise StudyError(
            f"the study in {folder.root} is complete, but its MLflow record is not: run it again with "
            "--resume when the store answers"
        )
    return Outcome(
        trials, winner, target, study.bundle, folder.root, folder.data, plan.objective, record.page
    )


def _log_bundles(engine: Engine, winner: TrialState, best: Path, trials: Sequence[TrialState]) -> None:
    """Log the bundles of the winner and of the Pareto front to their runs."""
    record = engine.record
    for state in {t.id: t for t in [winner, *pareto_front(trials)]}.values():
        kept = engine.checkpoint_of(engine.ledger.entries[state.id])
        if state.id == winner.id:
            record.safely(record.files, state, Bundle(best))
        elif kept is not None:
            with kept.as_directory() as source:
                record.safely(record.files, state, Bundle(Path(source)))
