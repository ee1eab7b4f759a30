"""The engine between Ray's events and the ledger, without a cluster."""

from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from ray.tune.experiment import Trial

from qcanet_monai.errors import StudyError
from qcanet_monai.tuning.engine import KEPT, SHARE, Engine
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.gpus import Packing
from qcanet_monai.tuning.search import NAME, Proposer
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import RESUME, Plan


def study(**keys):
    return Study.model_validate(
        {
            "bundle": "nsn",
            "space": {"depth": {"low": 1, "high": 3}},
            "trials": 8,
            "resources": {"gpu": 0.25},
            **keys,
        }
    )


@pytest.fixture
def open_engine(tmp_path):
    """Open the engine of a study's folder, as each session does."""

    def opened(**keys):
        own = study(**keys)
        folder = StudyFolder(tmp_path, "mine")
        folder.root.mkdir(exist_ok=True)
        nothing = dict.fromkeys(("child", "epoch", "end", "progress", "pictures"))
        record = SimpleNamespace(later=lambda *_: None, **nothing)
        plan = Plan("bundle", {}, "iou", 9, threads=1)
        engine = Engine(own, plan, folder, record, lambda _: None, Packing(own, plan, 1, []))
        engine.proposer = Proposer(own, "iou", engine.ledger)
        engine.mirror = SimpleNamespace(add=None)
        return engine

    return opened


def ray_trial(config, status=Trial.TERMINATED):
    return SimpleNamespace(config=config, status=status, error_file=None)


def report(engine, trial, epoch, iou, **values):
    told = {"iou": iou, "epoch": epoch, **values}
    engine.reported(trial, {"report": told, **told})
    path = engine.folder.root / "ray/1" / trial.config[NAME] / f"checkpoint_{epoch:06d}"
    path.mkdir(parents=True)
    engine.saved(trial, SimpleNamespace(path=str(path)))
    return path


def test_a_trial_that_did_not_end_continues_from_its_checkpoint(open_engine):
    engine = open_engine()
    trial = ray_trial(engine.next_trial())
    assert (trial.config[NAME], trial.config[RESUME]) == ("001", None)
    path = report(engine, trial, 1, 0.1)
    resumed = open_engine()
    assert resumed.left == 8
    assert resumed.next_trial() == {**trial.config, RESUME: str(path)}
    assert resumed.next_trial()[NAME] == "002"


def test_only_the_best_keep_their_checkpoints(open_engine):
    engine = open_engine()
    paths = []
    for place in range(8):
        trial = ray_trial(engine.next_trial())
        paths.append(report(engine, trial, 9 if place % 2 else 3, place / 10))
        engine.ended(trial)
    kept = [path.exists() for path in paths]
    assert sum(kept) == KEPT == 5
    assert kept == [False, True, False, True, False, True, True, True]  # full budget first, then the value
    again = open_engine()
    assert [entry.checkpoint is not None for entry in again.ledger.entries.values()] == kept


def test_like_failures_stop_the_search_and_run_again_later(open_engine, monkeypatch):
    engine = open_engine(max_failures=2)
    stopped = []
    monkeypatch.setattr(engine, "stop", stopped.append)
    for reason, retry in (
        ("diverged", False),
        ("no file 1", True),
        ("diverged", False),
        ("no file 22", True),
    ):
        trial = ray_trial(engine.next_trial())
        told = {"iou": 0.0, "epoch": 0, "failure": reason, "retry": retry}
        engine.reported(trial, {"report": told})
        engine.safely("ended", trial)
    (error,) = stopped
    assert str(error).startswith("the study stopped, because 2 of 4 trials failed alike: no file 22; mend")
    states = [trial.state.name for trial in engine.proposer.optuna.get_trials()]
    assert states == [
        "COMPLETE",
        "FAIL",
        "COMPLETE",
        "FAIL",
    ]  # the sampler learns from the trials' own faults
    again = open_engine()
    assert [again.next_trial()[NAME] for _ in range(3)] == ["002", "004", "005"]


def test_a_lost_process_is_told_and_runs_again_later(open_engine, tmp_path):
    engine = open_engine()
    trial = ray_trial(engine.next_trial(), Trial.ERROR)
    trial.error_file = tmp_path / "error.txt"
    trial.error_file.write_text("Traceback\n  somewhere\nActorDiedError: killed\n\n")
    engine.ended(trial)
    entry = engine.ledger.entries["001"]
    assert (entry.failure, entry.retry) == ("ActorDiedError: killed", True)


def test_hours_are_those_of_all_sessions(open_engine):
    engine = open_engine(hours=1)
    assert not engine.out_of_time
    engine.ledger.seconds = 3600.0
    assert engine.out_of_time
    engine.run()  # nothing is left to do: Ray is not asked


def test_a_ledger_that_cannot_be_written_ends_the_search(open_engine, monkeypatch):
    engine = open_engine()
    stopped = []
    monkeypatch.setattr(engine, "stop", stopped.append)
    engine.ledger.path = engine.folder.root / "gone/ledger.jsonl"
    assert engine.next_trial() is None
    assert isinstance(stopped[0], StudyError)


def test_a_trial_out_of_memory_runs_once_more_alone_on_a_whole_gpu(open_engine):
    engine = open_engine(trials=1)
    told = {"iou": 0.0, "epoch": 0, "failure": "out of memory: CUDA", "retry": False, "too_large": True}
    first = ray_trial(engine.next_trial())
    assert first.config[SHARE] == 0.25
    assert engine.next_trial() is None
    assert not engine.complete  # the trial that runs may have to be repeated
    engine.reported(first, {"report": told})
    engine.ended(first)
    assert not engine.proposer.optuna.get_trials(states=(TrialState.COMPLETE,))
    engine = open_engine(trials=1)  # of a resumed study, too
    assert not engine.complete
    second = ray_trial(engine.next_trial())
    assert second.config == {**first.config, SHARE: 1.0}
    engine.reported(second, {"report": told})
    engine.ended(second)
    assert engine.complete
    assert engine.next_trial() is None
    (trial,) = engine.proposer.optuna.get_trials()
    assert trial.constraints["size"] > 0


def test_without_shared_gpus_a_study_is_complete_once_its_last_trial_has_started(open_engine):
    engine = open_engine(trials=1, resources={"gpu": 0})
    assert not engine.complete
    assert engine.next_trial()[SHARE] == 0
    assert engine.complete
