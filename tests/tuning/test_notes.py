"""The description of a study answers what its readers ask."""

from dataclasses import replace

import pytest

from qcanet_monai.registry.data import Data
from qcanet_monai.tuning.notes import BEST, domains_text, study_note
from qcanet_monai.tuning.progress import TrialState
from qcanet_monai.tuning.study import Study

STUDY = Study.model_validate(
    {
        "bundle": "nsn",
        "space": {
            "depth": {"low": 1, "high": 3},
            "optimizer": {"choices": ["sgd", "adam"]},
            "learning_rate": [
                {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
                {"when": {"optimizer": "adam"}, "low": 1e-4, "high": 1e-2, "log": True},
            ],
        },
    }
)
SETTINGS = {"depth": 2, "optimizer": "sgd", "learning_rate": 0.123456}
TRIALS = [
    TrialState(f"{i:03d}", SETTINGS, "finished", 9, 0.5 + i / 100, seconds=18.0) for i in range(1, 8)
] + [TrialState("008", SETTINGS, "stopped", 3, 0.9, seconds=6.0), TrialState("009", SETTINGS, "failed")]
DATA = [Data("embryos train", "abc", "/d", "training", {"volumes": 8, "nuclei": 12345})]
FACTS = {"bundle": "nsn", "git_commit": "f00d", "version.torch": "2.13"}


@pytest.fixture
def note() -> str:
    links = {trial.id: f"#/runs/{trial.id}" for trial in TRIALS}
    return study_note("mine", STUDY, "iou", TRIALS, TRIALS[6], links=links, data=DATA, facts=FACTS)


def test_it_names_the_winner_and_leads_to_its_run(note):
    assert note.startswith("**Best: [007 d2 sgd](#/runs/007)**, iou **0.5700** after 9 epochs.")


def test_the_best_with_the_full_budget_are_compared(note):
    rows = [line for line in note.splitlines() if line.startswith("| [")]
    assert [row.split("]")[0][3:] for row in rows] == ["007", "006", "005", "004", "003"]
    assert len(rows) == BEST
    assert "| 0.5700 | 2 | sgd | 0.1235 |" in rows[0]
    assert "the best 5 trials with the full budget have iou 0.5300 to 0.5700" in note
    assert "(standard deviation 0.0158)" in note


def test_it_states_data_cost_origin_and_the_way_to_load_it(note):
    for words in (
        "9 trials (7 finished, 1 stopped, 1 failed); an epoch takes 2 s (median)",
        "embryos train, digest `abc` (8 volumes, 12,345 nuclei)",
        "qcanet promote nsn --study mine",
        'qcanet_monai.load("models:/nsn@champion")',
        "commit f00d, torch 2.13",
        "| learning_rate | 0.01 to 1 (logarithmic) where optimizer is sgd; ",
    ):
        assert words in note


def test_one_trial_tells_nothing_of_the_spread():
    one = [TRIALS[0]]
    note = study_note("m", STUDY, "iou", one, one[0], links={"001": "#"}, data=DATA, facts=FACTS)
    assert "nothing is known of the spread" in note


def test_domains_are_told_in_words():
    assert domains_text(STUDY.variants("depth")) == "1 to 3"
    assert domains_text(STUDY.variants("optimizer")) == "sgd, adam"


def test_a_trials_name_tells_whole_numbers_and_words():
    state = replace(TRIALS[0], settings={**SETTINGS, "networks#ndn#depth": 1, "attention": True})
    assert state.title == "001 d2 sgd ndn.d1"
