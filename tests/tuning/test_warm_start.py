"""A study learns from the trials of other studies whose scores mean the same."""

import shutil

import pytest

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.ledger import Ledger
from qcanet_monai.tuning.search import Proposer
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.warm_start import known_trials

SPACE = {
    "depth": {"low": 1, "high": 3},
    "optimizer": {"choices": ["sgd", "adam"]},
    "learning_rate": [
        {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
        {"when": {"optimizer": "adam"}, "low": 1e-4, "high": 1e-2, "log": True},
    ],
}
BUNDLE = Bundle.find("nsn")


def study(**keys):
    return Study.model_validate({"bundle": "nsn", "space": SPACE, "epochs": 9, **keys})


@pytest.fixture
def store(blank_store, tmp_path):
    """Make an MLflow store without studies."""
    return f"sqlite:///{shutil.copy(blank_store, tmp_path)}"


@pytest.fixture
def earlier(tmp_path):
    """Make a study of four trials: two sound ones, one with an error, one that runs."""

    def made(**keys):
        folder = StudyFolder(tmp_path, "earlier")
        folder.root.mkdir()
        folder._write({"id": "x", "data": "/d", "study": study(**keys).model_dump(mode="json")})
        ledger = Ledger(folder.root / "ledger.jsonl")
        ledger.start()
        for depth, iou in ((1, 0.3), (3, 0.6), (2, 0.0), (2, 0.5)):
            settings = {"depth": depth, "optimizer": "adam", "learning_rate": 0.001}
            name = ledger.add(settings).name
            ledger.result(name, {"epoch": 9, "iou": iou, "multiply_adds": 5})
        ledger.end("001")
        ledger.end("002")
        ledger.end("003", "FileNotFoundError: gone", retry=True)
        return tmp_path

    return made


def test_sound_trials_of_another_study_are_learnt(earlier, capsys, store):
    storage = earlier()
    found = known_trials(["earlier"], storage, store, study(), BUNDLE)
    assert [(one.settings["depth"], one.result["iou"]) for one in found] == [(1, 0.3), (3, 0.6)]
    assert found == known_trials([storage / "earlier"], "elsewhere", store, study(), BUNDLE)
    assert (
        capsys.readouterr().err.splitlines()[0]
        == "qcanet: warm start with 2 trials of earlier, trained on /d"
    )


def test_the_sampler_knows_them_after_a_resume_too(earlier, tmp_path, store):
    found = known_trials(["earlier"], earlier(), store, study(), BUNDLE)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.start()
    for one in found:
        ledger.learn(one.settings, one.result)
    for opened in (ledger, Ledger(ledger.path)):
        proposer = Proposer(study(), "iou", opened)
        known = [trial for trial in proposer.optuna.get_trials() if trial.state.is_finished()]
        assert [trial.value for trial in known] == [0.3, 0.6]
        assert [proposer.ask(name)["depth"] for name in ("001", "002")] == [3, 1]  # the best ones again
    assert ledger.entries == {}


def test_points_outside_the_space_are_counted(earlier, capsys, store):
    storage = earlier()
    narrow = study(space={**SPACE, "depth": {"low": 2, "high": 3}})
    assert [one.settings["depth"] for one in known_trials(["earlier"], storage, store, narrow, BUNDLE)] == [3]
    assert "with 1 trials of earlier, trained on /d, 1 lie outside the space" in capsys.readouterr().err


def test_a_setting_that_was_fixed_there_may_be_searched_here(earlier, store):
    storage = earlier(settings={"channels": 4})
    wider = study(space={**SPACE, "channels": {"choices": [4, 8]}})
    assert [one.settings["channels"] for one in known_trials(["earlier"], storage, store, wider, BUNDLE)] == [
        4,
        4,
    ]


def test_a_setting_that_was_searched_there_may_be_fixed_here(earlier, capsys, store):
    storage = earlier()
    narrow = study(space={key: SPACE[key] for key in ("optimizer", "learning_rate")}, settings={"depth": 3})
    assert [one.result["iou"] for one in known_trials(["earlier"], storage, store, narrow, BUNDLE)] == [0.6]
    assert "1 lie outside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("theirs", "ours", "told"),
    [
        ({"bundle": "ndn"}, {}, "expected a study of nsn to warm-start from, earlier is of ndn"),
        ({"epochs": 3}, {}, "expected a study of 9 epochs to warm-start from, earlier has 3"),
        ({"settings": {"batch_size": 8}}, {}, "expected batch_size 2 .*, earlier trained with 8"),
        ({}, {"settings": {"batch_size": 8}}, "expected batch_size 8 .*, earlier trained with 2"),
    ],
)
def test_a_study_whose_scores_mean_something_else_is_refused(earlier, theirs, ours, told, store):
    storage = earlier(**theirs)
    with pytest.raises(StudyError, match=told):
        known_trials(["earlier"], storage, store, study(**ours), BUNDLE)


def test_a_study_that_does_not_exist(tmp_path, store):
    with pytest.raises(
        StudyError,
        match=r"expected a study of nsn to warm-start from, found none in gone, in .* or in MLflow",
    ):
        known_trials(["gone"], tmp_path, store, study(), BUNDLE)
