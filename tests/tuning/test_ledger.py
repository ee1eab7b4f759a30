"""The ledger keeps its lines through crashes, resumes and repeated epochs."""

import json
import resource

import pytest

from qcanet_monai.errors import StudyError
from qcanet_monai.tuning import ledger as module
from qcanet_monai.tuning.ledger import Ledger
from qcanet_monai.tuning.progress import TrialState


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "ledger.jsonl")
    made.start()
    made.add({"depth": 2, "eps": 0.1})
    return made


def test_a_trial_becomes_plain_data(ledger):
    entry = ledger.entries["001"]
    assert entry.state("iou", 9) == TrialState("001", {"depth": 2, "eps": 0.1}, "waiting")
    costs = {"parameters": 208, "multiply_adds": 2592}
    for epoch, value in ((1, 0.2), (2, 0.4)):
        ledger.result("001", {"iou": value, "epoch": epoch, "epoch_seconds": 1.5, **costs})
    assert entry.state("iou", 9) == TrialState(
        "001", {"depth": 2, "eps": 0.1}, "running", 2, 0.4, **costs, seconds=3.0
    )


@pytest.mark.parametrize(
    ("last", "failure", "expected"),
    [
        (None, "", "failed"),
        ({"epoch": 9, "iou": 0.5}, "", "finished"),
        ({"epoch": 3, "iou": 0.5}, "", "stopped"),
        ({"epoch": 0, "iou": 0.0}, "out of memory", "failed"),
        ({"epoch": 9, "iou": 0.5}, "the loss became nan", "failed"),
    ],
)
def test_a_trial_is_finished_only_with_its_full_budget(ledger, last, failure, expected):
    if last:
        ledger.result("001", last)
    ledger.end("001", failure)
    state = ledger.entries["001"].state("iou", 9)
    assert (state.status, state.failure) == (expected, failure)


def test_a_larger_budget_makes_a_finished_trial_a_stopped_one(ledger):
    ledger.result("001", {"epoch": 9, "iou": 0.5})
    ledger.end("001")
    assert ledger.entries["001"].state("iou", 20).status == "stopped"


def test_what_was_written_is_read_again(ledger):
    ledger.result("001", {"iou": 0.2, "epoch": 1, "failure": "", "note": None})
    ledger.checkpoint("001", "ray/1/001/checkpoint_000000")
    ledger.add({"depth": 1})
    ledger.end("002", "gone", retry=True)
    again = Ledger(ledger.path)
    assert {name: vars(entry) for name, entry in again.entries.items()} == {
        name: vars(entry) for name, entry in ledger.entries.items()
    }
    assert again.entries["001"].results == [{"iou": 0.2, "epoch": 1, "failure": ""}]
    assert (again.lost, again.entries["002"].retry) == (0, True)
    again.again("002")
    assert again.entries["002"].state("iou", 9).status == "waiting"


def test_a_repeated_epoch_counts_once(ledger):
    for epoch, value in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25)):
        ledger.result("001", {"iou": value, "epoch": epoch})
    assert [(r["epoch"], r["iou"]) for r in ledger.entries["001"].results] == [(1, 0.1), (2, 0.25)]


def test_a_line_cut_by_a_crash_is_left_out(ledger):
    ledger.result("001", {"iou": 0.2, "epoch": 1})
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"event": "result", "trial": "001", "val')
    again = Ledger(ledger.path)
    assert (again.lost, len(again.entries["001"].results)) == (1, 1)
    again.result("001", {"iou": 0.3, "epoch": 2})
    third = Ledger(ledger.path)
    assert (third.lost, [r["epoch"] for r in third.entries["001"].results]) == (1, [1, 2])


def test_only_the_time_of_sessions_counts(tmp_path, clock):
    made = Ledger(tmp_path / "ledger.jsonl")
    made.start()
    made.add({})
    clock[0] += 50
    made.result("001", {"epoch": 1, "iou": 0.1})
    clock[0] += 10_000  # killed, and resumed much later
    again = Ledger(made.path)
    assert again.seconds == 50
    again.start()
    clock[0] += 25
    again.result("001", {"epoch": 2, "iou": 0.1})
    assert again.seconds == Ledger(made.path).seconds == 75


def test_the_time_between_sessions_never_counts(tmp_path, clock):
    made = Ledger(tmp_path / "ledger.jsonl")
    made.start()
    made.add({})
    clock[0] += 50
    made.end("001", "FileNotFoundError: gone", retry=True)
    clock[0] += 10_000
    again = Ledger(made.path)
    assert again.elapsed == 50
    again.again("001")
    again.start()
    clock[0] += 20  # in the middle of an epoch
    assert (again.seconds, again.elapsed) == (50, 70)
    assert Ledger(made.path).seconds == 50


def test_a_trial_that_runs_again_keeps_its_epochs(ledger):
    for values in (
        {"epoch": 1, "iou": 0.1},
        {"epoch": 2, "iou": 0.2},
        {"epoch": 0, "iou": 0, "failure": "gone"},
    ):
        ledger.result("001", values)
    ledger.end("001", "gone", retry=True)
    assert ledger.entries["001"].state("iou", 9).epoch == 0
    for opened in (ledger, Ledger(ledger.path)):
        opened.again("001")
        state = opened.entries["001"].state("iou", 9)
        assert (state.status, state.epoch, state.value) == ("waiting", 2, 0.2)


def test_a_ledger_that_cannot_be_written_says_so_in_one_line(tmp_path):
    with pytest.raises(StudyError, match=r"cannot write .*no such file or directory; make room"):
        Ledger(tmp_path / "gone/ledger.jsonl").start()


@pytest.mark.parametrize("room", [0, 1, 50])
def test_a_line_that_does_not_fit_leaves_no_part_behind(ledger, room):
    before = ledger.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
        with pytest.raises(StudyError, match=r"cannot write .*: file too large; make room"):
            ledger.result("001", {"epoch": 1, "iou": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ledger.path.read_bytes() == before
    ledger.result("001", {"epoch": 1, "iou": 0.5})
    assert Ledger(ledger.path).lost == 0


def test_every_line_is_json(ledger):
    ledger.add({"optimizer": "µ"})
    assert [json.loads(line)["event"] for line in ledger.path.read_text().splitlines()] == [
        *("session", "trial", "trial"),
    ]
