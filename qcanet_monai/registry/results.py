"""Results of commands other than studies, as runs in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcanet_monai.registry.data import Data
from qcanet_monai.registry.provenance import environment, git_commit, origin, versions
from qcanet_monai.registry.runs import RunLog
from qcanet_monai.registry.store import connect, experiment, store_uri, suppress_mlflow_logs
from qcanet_monai.registry.studies import address, run_page


def log_results(
    tracking_uri: str | None,
    experiment_name: str,
    name: str,
    *,
    source: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    data: Sequence[Data] = (),
    files: Sequence[Path] = (),
) -> str:
    """Log a run as studies do; return the URL of its page, see ``studies.address``.

    Parameters
    ----------
    tracking_uri
        MLflow store, see ``registry.store.store_uri``.
    experiment_name
        MLflow experiment, created if absent.
    name
        Name of the run.
    source
        Command that made the results.
    params, metrics
        Settings and scores.
    data
        Datasets that the scores were measured on.
    files
        Files and folders to keep as artifacts.

    Raises
    ------
    RegistryError
        If the store cannot be used.
    """
    uri = store_uri(tracking_uri)
    with suppress_mlflow_logs():
        client = connect(uri)
        place = experiment(client, uri, experiment_name)
        tags = {"git_commit": git_commit(), **versions(), **origin(source)}
        run = RunLog(client, place, {"role": "result", "command": source}, name, new=True, tags=tags)
        run.describe(params, {})
        if data:
            run.log_data(data)
        run.log(metrics, 0)
        for path in files:
            run.artifact(path, path.name if path.is_dir() else None)
        run.text(environment(), "requirements.txt")
        run.close("FINISHED")
    return address(uri, run_page(place, run.id))
