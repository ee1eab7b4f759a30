"""Studies in an MLflow store, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from qcanet_monai.registry.runs import find_runs
from qcanet_monai.registry.store import SQLITE, connect, store_uri, suppress_mlflow_logs

PREFIX = "qcanet-"  # of the experiments
TRAINING = "workflowType=machine_learning"  # else MLflow's pages open for language models


@dataclass(frozen=True)
class StudyRun:
    """A study as its run in MLflow states it.

    Attributes
    ----------
    objective, best
        Name and best value of the objective; None before the first trial has ended.
    best_trial
        Name of the winner; empty before the end.
    page
        Address of the study's runs within MLflow's pages.
    """

    name: str
    bundle: str
    status: str
    started: datetime
    objective: str | None
    best: float | None
    best_trial: str
    page: str


def studies(tracking_uri: str | None = None) -> list[StudyRun]:
    """List the studies of a store.

    Raises
    ------
    RegistryError
        If the store does not answer or does not exist.

    Examples
    --------
    >>> from qcanet_monai.registry.studies import studies
    >>> [study.name for study in studies("sqlite:///studies.db")]  # doctest: +SKIP
    ['smoke']
    """
    found = []
    with suppress_mlflow_logs():
        client = connect(store_uri(tracking_uri), create=False)
        for experiment in client.search_experiments(filter_string=f"name LIKE '{PREFIX}%'"):
            for run in find_runs(client, experiment.experiment_id, {"role": "study"}):
                best = {name: v for name, v in run.data.metrics.items() if name.startswith("best_")}
                name, value = next(iter(best.items()), (None, None))
                found.append(
                    StudyRun(
                        name=run.data.tags["study"],
                        bundle=experiment.name.removeprefix(PREFIX),
                        status=str(run.info.status).lower(),
                        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
                        objective=name and name.removeprefix("best_"),
                        best=value,
                        best_trial=run.data.tags.get("best_trial", ""),
                        page=study_page(experiment.experiment_id, run.data.tags["study_id"]),
                    )
                )
    return sorted(found, key=lambda study: study.started, reverse=True)


def view_of(study_id: str) -> str:
    """Return the key of a study's view of the table of runs."""
    return study_id[:12]


def study_page(experiment_id: str, study_id: str) -> str:
    """Return the address of a study's runs within MLflow's pages, best first."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={view_of(study_id)}&{TRAINING}"


def address(uri: str, page: str) -> str:
    """Return the URL of a page, of `qcanet ui` if the store is a file."""
    base = "http://127.0.0.1:5000" if uri.startswith(SQLITE) else uri.rstrip("/")
    return f"{base}/{page}"


def run_page(experiment_id: str, run_id: str) -> str:
    """Return the address of a run within MLflow's pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"
