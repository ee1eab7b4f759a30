"""Training of a trial: data-parallel, stopped early, resumed."""

from pathlib import Path

import pytest
import torch
from ray.tune import Checkpoint

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.cluster import ray_cluster
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.outcome import finish, trained
from qcanet_monai.tuning.progress import TrialState
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan, finish_trial, train

STUDY = Study.model_validate(
    {"bundle": "nsn", "space": {"depth": {"choices": [1]}}, "resources": {"cpu": 1}, "epochs": 3}
)


@pytest.fixture
def plan(dataset, tmp_path):
    settings = {
        "folds": 2,
        "isotropic_spacing_um": 4.0,
        "channels": 2,
        "patch_size": 16,
        "dataset_dir": str(dataset),
    }
    settings["cache_dir"] = str(tmp_path / "cache")
    return Plan(Bundle.find("nsn"), settings, "iou", epochs=3, threads=1)


def stop(_result):
    """End a trial as Ray does when ASHA stops it."""
    raise SystemExit


def epoch_of(folder: Path) -> int:
    return torch.load(folder / "last.pt", weights_only=True)["epoch"]


@pytest.mark.slow
def test_a_winner_that_was_stopped_early_is_trained_to_its_full_budget(plan, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(SystemExit):
        train(plan, plan.overrides({"depth": 1}), checkpoint, stop)
    assert epoch_of(checkpoint) == 1
    winner = TrialState("a", {"depth": 1}, "stopped", epoch=1, value=0.1)
    with ray_cluster():
        further = finish(
            STUDY,
            plan,
            winner,
            Checkpoint.from_directory(checkpoint),
            StudyFolder(tmp_path.parent, tmp_path.name),
            0,
        )
        again = finish(
            STUDY,
            plan,
            winner,
            Checkpoint.from_directory(checkpoint),
            StudyFolder(tmp_path.parent, tmp_path.name),
            0,
        )
    assert again == []  # as for a study resumed after its end
    assert trained(tmp_path / "best") == (3, further[-1]["iou"])
    assert [result["epoch"] for result in further] == [2, 3]
    assert epoch_of(tmp_path / "best") == 3
    assert epoch_of(checkpoint) == 1


def test_a_winner_of_full_budget_is_taken_as_it_is(plan, tmp_path):
    finish_trial({"depth": 1}, plan, str(tmp_path / "checkpoint"))
    winner = TrialState("a", {"depth": 1}, "finished", epoch=3, value=0.1)
    assert (
        finish(
            STUDY,
            plan,
            winner,
            Checkpoint.from_directory(tmp_path / "checkpoint"),
            StudyFolder(tmp_path.parent, tmp_path.name),
            0,
        )
        == []
    )
    assert (tmp_path / "best/models/model.pt").is_file()


@pytest.mark.slow
def test_a_trial_may_train_in_several_processes(plan, tmp_path):
    parallel = Plan(**{**plan.__dict__, "processes": 2})
    for name in ("first", "second"):  # one worker trains many trials
        results = finish_trial({"depth": 1}, parallel, str(tmp_path / name))
        assert [result["epoch"] for result in results] == [1, 2, 3]
    assert not torch.distributed.is_initialized()
    assert 0 < results[-1]["iou"] <= 1


def test_the_objective_is_the_best_validation_so_far(plan, tmp_path):
    results = finish_trial({"depth": 1, "learning_rate": 0.1}, plan, str(tmp_path / "out"))
    seen = [result["validation_iou"] for result in results]
    assert [result["iou"] for result in results] == [max(seen[: i + 1]) for i in range(len(seen))]
