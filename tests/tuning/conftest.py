"""Small real studies, run by command line and audited in MLflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

QCANET = Path(sys.executable).with_name("qcanet")
TINY: dict[str, Any] = {
    "bundle": "nsn",
    "space": {
        "channels": {"choices": [2, 3]},
        "learning_rate": {"low": 1.0e-3, "high": 1.0e-2, "log": True},
    },
    "settings": {"folds": 2, "isotropic_spacing_um": 4.0, "depth": 1, "patch_size": 16},
    "sampler": {"name": "random"},
    "trials": 3,
    "epochs": 3,
    "resources": {"cpu": 1},
    "max_concurrent": 1,
}


@dataclass
class Tuning:
    """A study's file and folder, with its commands and results."""

    file: Path
    folder: Path
    data: Path
    storage: Path | None = None

    def command(self, *options: str) -> list[str]:
        own = [
            "--storage",
            str(self.storage or self.folder),
            "--data",
            str(self.data),
            "--tracking-uri",
            self.uri,
        ]
        return [str(QCANET), "tune", str(self.file), *own, "--cache", str(self.folder / "cache"), *options]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def root(self) -> Path:
        return (self.storage or self.folder) / self.file.stem

    def run(self, *options: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*options), capture_output=True, text=True, timeout=600, env=os.environ | (env or {})
        )

    def start(self, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(*options), stdout=pipe, stderr=pipe, text=True, env=os.environ | (env or {})
        )

    def results(self) -> dict[str, list[dict[str, Any]]]:
        """Read what the trials reported, epochs that were repeated included."""
        found: dict[str, list[dict[str, Any]]] = {}
        path = self.root / "ledger.jsonl"
        for line in path.read_text().splitlines() if path.exists() else ():
            event = yaml.safe_load(line) if line.endswith("}") else {}
            if event.get("event") == "result":
                found.setdefault(event["trial"], []).append({"trial_id": event["trial"], **event["values"]})
        return found

    def runs(self) -> tuple[Run, list[Run]]:
        """Find the only study's run in MLflow and those of its trials."""
        client = MlflowClient(self.uri)
        runs = list(client.search_runs([client.get_experiment_by_name("qcanet-nsn").experiment_id]))
        (parent,) = [run for run in runs if run.data.tags["role"] == "study"]
        trials = [run for run in runs if run.data.tags["role"] == "trial"]
        assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in trials)
        return parent, trials

    def steps(self, run: Run, metric: str = "best_iou") -> list[int]:
        return [m.step for m in MlflowClient(self.uri).get_metric_history(run.info.run_id, metric)]

    @staticmethod
    def wait(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 300) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            assert process.poll() is None, process.communicate()
            time.sleep(0.2)
        raise AssertionError("it did not come about in time")

    def audit(self, trials: int, epochs: int) -> None:
        """Check that every trial ran once, from first to last epoch, and has ended."""
        parent, children = self.runs()
        assert parent.info.status == "FINISHED"
        assert len({run.data.tags["trial_id"] for run in children}) == len(children) == trials
        for run in children:
            assert run.info.status == "FINISHED", run.data.tags.get("failure")
            assert self.steps(run) == list(range(1, epochs + 1))


@pytest.fixture(scope="session")
def tuning_at(dataset: Path, blank_store: Path) -> Callable[..., Tuning]:
    """Make a study in a folder from the tiny study and some changes."""

    def make(folder: Path, **changes: Any) -> Tuning:
        file = folder / "tiny.yaml"
        file.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
        study = Tuning(file, folder / "studies", dataset)
        study.folder.mkdir()
        shutil.copyfile(blank_store, study.folder / "mlflow.db")
        return study

    return make


@pytest.fixture
def tuning(tmp_path: Path, tuning_at: Callable[..., Tuning]) -> Callable[..., Tuning]:
    return partial(tuning_at, tmp_path)


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, tuning_at: Callable[..., Tuning]) -> Tuning:
    """Run six trials: two cannot succeed, ASHA stops some of the others."""
    sound = {"channels": 3, "optimizer": "adam", "betas#0": 0.9}
    tuning = tuning_at(
        tmp_path_factory.mktemp("whole"),
        space={
            "channels": {"choices": [2, 3, 100_000]},
            "optimizer": {"choices": ["adam", "sgd"]},
            "betas#0": {"when": {"optimizer": "adam"}, "low": 0.8, "high": 0.95},
            "learning_rate": {"choices": [1.0e-7, 1.0e-2, 1.0e30]},
        },
        starting_points=[
            {**sound, "learning_rate": 1.0e-2},
            {**sound, "learning_rate": 1.0e-2, "channels": 100_000},
            {**sound, "learning_rate": 1.0e30},
            {**sound, "learning_rate": 1.0e-7},
            {**sound, "learning_rate": 1.0e-7, "channels": 2},
            {"channels": 2, "optimizer": "sgd", "learning_rate": 1.0e-7},
        ],
        scheduler={"name": "asha", "grace_epochs": 1, "reduction_factor": 2},
        trials=6,
        epochs=4,
        cost_objective=True,
    )
    ended = tuning.run()
    assert ended.returncode == 0, ended.stderr
    assert "1 failed with: " in ended.stdout
    return tuning
