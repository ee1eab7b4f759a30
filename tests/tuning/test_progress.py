"""Progress of a study: best trial, Pareto front, remaining time."""

import time

import pytest

from qcanet_monai.tuning.progress import Progress, TrialState, best_of, pareto_front


def trial(name, status="finished", epoch=9, value=0.5, cost=None) -> TrialState:
    return TrialState(name, {}, status, epoch, value, multiply_adds=cost)


@pytest.mark.parametrize(
    ("status", "over"),
    [("waiting", False), ("running", False), ("finished", True), ("stopped", True), ("failed", True)],
)
def test_a_trial_is_over_once_it_has_ended_in_any_way(status, over):
    assert trial("a", status).over is over


def test_the_rung_ranks_before_the_value():
    assert trial("a", epoch=9, value=0.1).rank > trial("b", epoch=3, value=0.9).rank
    assert trial("a", epoch=9, value=0.2).rank > trial("b", epoch=9, value=0.1).rank
    assert trial("a", epoch=0, value=0.0).rank > trial("b", epoch=0, value=None).rank


def test_a_low_budgets_value_never_wins_over_a_higher_budgets():
    trials = [
        trial("lucky", "stopped", 1, 0.99),
        trial("good", "finished", 9, 0.7),
        trial("better", "finished", 9, 0.8),
        trial("third", "stopped", 3, 0.9),
    ]
    assert best_of(trials).id == "better"
    assert best_of(trials[:1] + trials[3:]).id == "third"


def test_a_trial_that_failed_never_wins():
    failed = trial("failed", "failed", 9, 0.99)
    assert best_of([failed, trial("poor", "stopped", 1, 0.1)]).id == "poor"
    assert best_of([failed]) is None


def test_a_trial_without_a_value_never_wins():
    assert best_of([trial("a", "running", 0, None), trial("b", "stopped", 1, 0.0)]).id == "b"
    assert best_of([trial("a", "waiting", 0, None)]) is None
    assert best_of([]) is None


def test_the_first_of_equals_wins():
    assert best_of([trial("a"), trial("b")]).id == "a"


def test_on_the_front_no_other_is_both_better_and_cheaper():
    trials = [
        trial("dear", value=0.9, cost=100),
        trial("cheap", value=0.3, cost=1),
        trial("dominated", value=0.5, cost=50),
        trial("middle", value=0.6, cost=10),
        trial("dearer and no better", value=0.9, cost=200),
        trial("as dear and worse", value=0.2, cost=1),
    ]
    assert [t.id for t in pareto_front(trials)] == ["cheap", "middle", "dear"]
    assert [t.id for t in pareto_front(trials[::-1])] == ["cheap", "middle", "dear"]


def test_only_trials_of_full_budget_are_on_the_front():
    others = [
        *(trial("stopped", "stopped", 3, 0.9, 1), trial("failed", "failed", 9, 0.9, 1)),
        trial("running", "running", 5, 0.9, 1),
    ]
    assert pareto_front(others) == []
    assert [t.id for t in pareto_front([*others, trial("whole", cost=5)])] == ["whole"]


def progress(trials, *, total, begun=0.0, deadline=None) -> Progress:
    now = time.time()
    return Progress(trials, total, 9, now - begun, None if deadline is None else now + deadline)


def test_nobody_knows_how_long_it_takes_before_the_first_trial_has_ended():
    assert progress([trial("a", "running")], total=10, begun=60).seconds_left is None
    assert progress([], total=10, begun=60, deadline=30).seconds_left is None


def test_the_trials_that_are_left_take_as_long_as_those_that_ended():
    trials = [trial("a"), trial("b", "stopped"), trial("c", "failed"), trial("d", "running")]
    assert progress(trials, total=12, begun=60).seconds_left == pytest.approx(180, abs=1)
    assert progress(trials[:3], total=3, begun=60).seconds_left == 0


def test_a_study_ends_at_its_deadline_at_the_latest():
    trials = [trial("a"), trial("b")]
    assert progress(trials, total=12, begun=60, deadline=45).seconds_left == pytest.approx(45, abs=1)
    assert progress(trials, total=12, begun=60, deadline=900).seconds_left == pytest.approx(300, abs=1)
    assert progress(trials, total=12, begun=60, deadline=-5).seconds_left == 0


def test_the_best_so_far_may_still_run():
    assert progress([trial("a", "running", 5), trial("b", "stopped", 1)], total=3).best.id == "a"
