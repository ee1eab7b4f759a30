"""The winner's bundle and its files, exactly as written."""

import json
import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch
from ray.tune import Checkpoint

from qcanet_monai.errors import StudyError
from qcanet_monai.tuning import outcome
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.outcome import choose, describe_bundle, finish, trained, write_overlay, write_tables
from qcanet_monai.tuning.progress import TrialState
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan, finish_trial

STUDY = Study.model_validate(
    {"bundle": "nsn", "space": {"depth": {"choices": [1, 2]}}, "resources": {"cpu": 3, "gpu": 0.5}}
)
PLAN = Plan(
    "/studies/nsn/bundle", {"folds": 2, "dataset_dir": "/data", "cache_dir": "/cache"}, "iou", 27, threads=1
)
WINNER = TrialState(
    "b",
    {"depth": 2, "loss": "dice"},
    "finished",
    epoch=27,
    value=0.98765,
    parameters=1_234_567,
    multiply_adds=9_000,
    seconds=61.5,
)
TRIALS = [
    TrialState(
        "a", {"depth": 1}, "stopped", epoch=3, value=0.5, parameters=10, multiply_adds=20, seconds=7.0
    ),
    WINNER,
    TrialState("c", {"depth": 3, "channels": 8}, "failed", failure="out of memory"),
    TrialState("d", {"depth": 1}, "finished", epoch=27, value=0.25, parameters=10, multiply_adds=9_500),
]


@pytest.fixture
def checkpoint(tmp_path):
    """Write a checkpoint: a bundle, and the state of its training."""
    folder = tmp_path / "checkpoint"
    (folder / "models").mkdir(parents=True)
    (folder / "models/model.pt").write_text("weights")
    (folder / "last.pt").write_text("state")
    return folder


@pytest.fixture
def folder(tmp_path):
    study = StudyFolder(tmp_path, "mine")
    study.root.mkdir()
    return study


@pytest.fixture
def no_ray(monkeypatch):
    """Remove Ray, so that any task fails at once."""
    monkeypatch.setattr(outcome, "ray", None)


def folder_at(path):
    return StudyFolder(path.parent, path.name)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_the_best_of_the_longest_trained_is_chosen():
    assert choose(TRIALS) is WINNER


@pytest.mark.parametrize(
    ("trials", "reason"),
    [
        ([TrialState("a", {}, "failed", failure="b"), TrialState("b", {}, "failed", failure="a")], "a"),
        ([TrialState("a", {}, "waiting"), TrialState("b", {}, "failed", failure="lost")], "lost"),
        ([TrialState("a", {}, "waiting"), TrialState("b", {}, "waiting")], "none ran"),
    ],
)
def test_without_a_winner_the_first_reason_in_the_alphabet_is_told(trials, reason):
    with pytest.raises(StudyError) as caught:
        choose(trials)
    assert str(caught.value) == f"none of 2 trials succeeded: {reason}"


@pytest.mark.usefixtures("no_ray")
def test_a_winner_of_full_budget_is_copied_the_state_last(checkpoint, tmp_path, monkeypatch):
    copied, copyfile = [], shutil.copyfile
    monkeypatch.setattr(
        shutil, "copyfile", lambda a, b, **options: copied.append(a.name) or copyfile(a, b, **options)
    )
    (tmp_path / "best/models").mkdir(parents=True)  # from an interrupted copy, without a state
    (tmp_path / "best/models/model.pt").write_text("wei")
    (tmp_path / "best/trial.txt").write_text("b")
    assert finish(STUDY, PLAN, WINNER, Checkpoint.from_directory(checkpoint), folder_at(tmp_path), 0) == []
    assert contents(tmp_path / "best") == {"last.pt": "state", "models/model.pt": "weights", "trial.txt": "b"}
    assert copied[-1] == "last.pt"
    assert copied.count("last.pt") == 1


@pytest.mark.usefixtures("no_ray")
def test_a_training_that_was_begun_in_the_target_is_not_overwritten(checkpoint, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best/last.pt").write_text("further")
    (tmp_path / "best/trial.txt").write_text("b")
    assert finish(STUDY, PLAN, WINNER, Checkpoint.from_directory(checkpoint), folder_at(tmp_path), 0) == []
    assert contents(tmp_path / "best") == {"last.pt": "further", "trial.txt": "b"}


@pytest.mark.usefixtures("no_ray")
def test_the_bundle_of_an_earlier_winner_is_replaced(checkpoint, tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best/last.pt").write_text("another")
    (tmp_path / "best/trial.txt").write_text("a")
    assert finish(STUDY, PLAN, WINNER, Checkpoint.from_directory(checkpoint), folder_at(tmp_path), 0) == []
    assert contents(tmp_path / "best")["last.pt"] == "state"


def test_a_stopped_winner_is_trained_on_a_trials_resources_in_the_target(checkpoint, tmp_path, monkeypatch):
    asked = []

    def remote(**resources):
        asked.append(resources)
        return lambda function: SimpleNamespace(remote=lambda *given: asked.append((function, *given)))

    further = [{"epoch": 27}]
    monkeypatch.setattr(
        outcome, "ray", SimpleNamespace(remote=remote, get=lambda task: asked.append(task) or further)
    )
    source, folder = Checkpoint.from_directory(checkpoint), folder_at(tmp_path)
    assert finish(STUDY, PLAN, TRIALS[0], source, folder, 0.5) is further
    assert asked == [
        {"num_cpus": 3, "num_gpus": 0.5},
        (finish_trial, {"depth": 1}, PLAN, str(tmp_path / "best")),
        None,
    ]
    assert (tmp_path / "best/last.pt").is_file()


def test_the_epochs_and_the_best_validation_are_those_of_the_last_state(tmp_path):
    state = {"epoch": torch.tensor(3), "best": torch.tensor(0.5), "weights": torch.zeros(2)}
    torch.save(state, tmp_path / "last.pt")
    found = trained(tmp_path)
    assert found == (3, 0.5)
    assert [type(value) for value in found] == [int, float]


def test_a_state_that_holds_more_than_numbers_is_not_loaded(tmp_path):
    torch.save({"epoch": 3, "best": 0.5, "path": tmp_path}, tmp_path / "last.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        trained(tmp_path)


@pytest.mark.parametrize(("bundle", "root"), [("nsn", "bundles/nsn"), ("/own/nsn", "/own/nsn")])
def test_an_overlay_opens_with_the_command_that_uses_it(folder, bundle, root):
    path = write_overlay(folder, PLAN, WINNER, bundle)
    assert path == folder.root / "best.yaml"
    assert path.read_text() == (
        f"# python -m monai.bundle run --bundle_root {root} --config_file "
        f"\"['{root}/configs/train.yaml','best.yaml']\" --dataset_dir DIR --output_dir OUT\n"
        "# Best of study mine: iou 0.9877 after 27 epochs.\n"
        "folds: 2\ndepth: 2\nloss: dice\nepochs: 27\n"
    )


def test_a_table_has_a_row_per_trial_and_a_column_per_setting(folder):
    assert write_tables(folder, PLAN, TRIALS, WINNER) == folder.root / "trials.csv"
    assert (folder.root / "trials.csv").read_text().splitlines() == [
        "trial,status,epochs,iou,parameters,multiply_adds,pareto,seconds,failure,depth,loss,channels",
        "a,stopped,3,0.5,10,20,0,7,,1,,",
        "b,finished,27,0.98765,1234567,9000,1,61.5,,2,dice,",
        "c,failed,0,,,,0,0,out of memory,3,,8",
        "d,finished,27,0.25,10,9500,0,0,,1,,",
    ]


def test_a_summary_counts_trials_and_epochs_and_names_the_winner(folder):
    write_tables(folder, PLAN, TRIALS, WINNER)
    assert json.loads((folder.root / "summary.json").read_text()) == {
        "study": "mine",
        "objective": "iou",
        "best_trial": "b",
        "best": 0.98765,
        "settings": {"depth": 2, "loss": "dice"},
        "parameters": 1_234_567,
        "trials": {"finished": 2, "stopped": 1, "failed": 1},
        "epochs": 57,
    }


def test_a_card_states_the_score_the_settings_and_the_origin(tmp_path):
    describe_bundle(tmp_path, PLAN, WINNER, "mine", {"data": "µ", "git_commit": "abc"})
    assert (tmp_path / "docs/README.md").read_text(encoding="utf-8") == (
        "# mine\n\n"
        "Best of a search: iou 0.9877 on the study's validation data after 27 epochs; "
        "1,234,567 parameters.\n\n"
        "| setting | value |\n|---|---|\n| depth | 2 |\n| loss | dice |\n\n"
        "- data: µ\n- git_commit: abc\n"
    )
