"""Sampler and scheduler: reproducible by seed, starting points first, rungs."""

import optuna
import pytest
from optuna.samplers import GPSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from qcanet_monai.tuning.ledger import Entry, Ledger
from qcanet_monai.tuning.search import (
    Mirror,
    Proposer,
    build_sampler,
    build_scheduler,
    optuna_url,
    replay,
)
from qcanet_monai.tuning.study import Sampler, Study

SPACE = {
    "depth": {"low": 1, "high": 3},
    "optimizer": {"choices": ["sgd", "adam"]},
    "learning_rate": [
        {"when": {"optimizer": "sgd"}, "low": 0.01, "high": 1.0, "log": True},
        {"when": {"optimizer": "adam"}, "low": 1e-4, "high": 1e-2, "log": True},
    ],
}
POINTS = [
    {"depth": 3, "optimizer": "adam", "learning_rate": 0.002},
    {"depth": 1, "optimizer": "sgd", "learning_rate": 0.25},
]


def study(**keys) -> Study:
    return Study(bundle="nsn", space=SPACE, **keys)


def proposals(keys, n=8, database=None):
    """Collect proposals for `n` trials whose value is their depth."""
    own = study(**keys)
    proposer = Proposer(own, "iou")
    mirror = Mirror(own, "study", database) if database else None
    found = []
    for number in range(n):
        entry = Entry(str(number), proposer.ask(str(number)))
        entry.results = [{"iou": entry.settings["depth"] / 3, "multiply_adds": 10, "epoch": 1}]
        proposer.tell(entry)
        if mirror:
            mirror.add([proposer.shown(entry)])
        found.append(entry.settings)
    return found


@pytest.mark.parametrize(
    ("name", "kind"), [("tpe", TPESampler), ("gp", GPSampler), ("random", RandomSampler)]
)
def test_a_sampler_is_known_by_its_name(name, kind):
    assert type(build_sampler(Sampler(name=name))) is kind


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_the_same_seed_gives_the_same_proposals_and_another_seed_others(name):
    def proposed(seed):
        return proposals({"sampler": {"name": name, "startup_trials": 3, "seed": seed}})

    assert proposed(1) == proposed(1)
    assert proposed(1) != proposed(2)


def test_building_a_sampler_warns_of_nothing(recwarn):
    for name in ("tpe", "gp", "random"):
        build_sampler(Sampler(name=name))
    assert not [str(w.message) for w in recwarn]


def test_starting_points_come_first():
    found = proposals({"starting_points": POINTS, "sampler": {"name": "random"}}, n=4)
    assert found[:2] == POINTS
    assert found[2] not in POINTS


def test_without_starting_points_the_sampler_begins():
    first = proposals({"sampler": {"name": "random", "seed": 5}}, n=1)
    assert first == proposals({"sampler": {"name": "random", "seed": 5}}, n=1)
    assert first[0] not in POINTS


def test_the_search_is_kept_in_a_database(tmp_path):
    database = tmp_path / "optuna.db"
    found = proposals({"starting_points": POINTS}, n=3, database=database)
    kept = optuna.load_study(study_name="study", storage=optuna_url(database))
    assert [trial.params for trial in kept.trials] == found
    assert [trial.value for trial in kept.trials[:2]] == [1, 1 / 3]
    assert kept.direction == StudyDirection.MAXIMIZE


def test_a_search_for_few_multiply_adds_has_two_directions(tmp_path):
    database = tmp_path / "optuna.db"
    proposals({"cost_objective": True, "starting_points": POINTS}, n=3, database=database)
    kept = optuna.load_study(study_name="study", storage=optuna_url(database))
    assert kept.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert kept.trials[0].values == [1, 10]


def reports(scheduler, epoch, values) -> list[str]:
    decisions = []
    for i, value in enumerate(values):
        trial = Trial("stub", stub=True, trial_id=f"t{i}")
        scheduler.on_trial_add(None, trial)
        decisions.append(scheduler.on_trial_result(None, trial, {"epoch": epoch, "iou": value}))
    return decisions


GO, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


@pytest.mark.parametrize(
    ("epochs", "grace", "factor", "rungs"),
    [(27, 1, 3, [1, 3, 9, 27]), (54, 2, 3, [2, 6, 18, 54]), (9, 4, 2, [4, 8]), (5, 5, 2, [5])],
)
def test_rungs_are_the_grace_times_powers_of_the_factor(epochs, grace, factor, rungs):
    own = study(epochs=epochs, scheduler={"grace_epochs": grace, "reduction_factor": factor})
    text = build_scheduler(own, "iou").debug_string()
    assert [int(float(part.split()[1].strip(":"))) for part in text.split("Bracket: ")[1].split(" | ")] == (
        rungs[::-1]
    )


def test_a_rung_keeps_the_better_third_and_stops_the_rest():
    scheduler = build_scheduler(study(epochs=9, scheduler={"grace_epochs": 1}), "iou")
    assert reports(scheduler, 1, [0.5, 0.6, 0.4, 0.9, 0.1]) == [GO, GO, STOP, GO, STOP]


def test_between_the_rungs_nobody_is_stopped():
    scheduler = build_scheduler(study(epochs=9, scheduler={"grace_epochs": 3}), "iou")
    assert reports(scheduler, 2, [0.5, 0.1, 0.01]) == [GO, GO, GO]


def test_at_the_full_budget_everybody_ends():
    assert reports(build_scheduler(study(epochs=9), "iou"), 9, [0.5, 0.9]) == [STOP, STOP]


def test_without_a_scheduler_every_trial_has_its_full_budget():
    scheduler = build_scheduler(study(epochs=9, scheduler={"name": "none"}), "iou")
    assert type(scheduler) is FIFOScheduler
    assert reports(scheduler, 1, [0.9, 0.1, 0.0]) == [GO, GO, GO]


@pytest.fixture
def ledger(tmp_path):
    """Record three ended trials, one with an error to mend, and a running one."""
    made = Ledger(tmp_path / "ledger.jsonl")
    made.start()
    for depth in (1, 2, 3, 1):
        settings = {"depth": depth, "optimizer": "sgd", "learning_rate": 0.1}
        name = made.add(settings).name
        for epoch in (1, 2, 3):
            made.result(name, {"iou": depth * epoch / 16, "epoch": epoch})
    made.end("001")
    made.end("002", "FileNotFoundError: gone", retry=True)
    made.end("003")
    return made


def test_earlier_sessions_are_learnt_from_the_ledger(ledger):
    proposer = Proposer(study(starting_points=POINTS), "iou", ledger)
    kept = proposer.optuna.get_trials()
    assert [(trial.user_attrs["trial"], trial.state.name, trial.values) for trial in kept] == [
        ("001", "COMPLETE", [3 / 16]),
        ("002", "FAIL", None),
        ("003", "COMPLETE", [9 / 16]),
    ]
    assert kept[2].intermediate_values == {1: 3 / 16, 2: 6 / 16, 3: 9 / 16}
    assert proposer.ask("005") not in POINTS  # the starting points were tried before
    ledger.end("004")  # asked in an earlier session
    proposer.tell(ledger.entries["004"])
    assert [trial.state.name for trial in proposer.optuna.get_trials()[3:]] == ["RUNNING", "COMPLETE"]


def test_a_wider_space_takes_earlier_trials_along(ledger):
    wide = {**SPACE, "depth": {"low": 1, "high": 9}, "optimizer": {"choices": ["sgd", "adam", "adamw"]}}
    proposer = Proposer(Study(bundle="nsn", space=wide), "iou", ledger)
    assert proposer.optuna.get_trials()[0].distributions["optimizer"].choices == ("sgd", "adam", "adamw")
    assert set(proposer.ask("005")) >= {"depth", "optimizer"}


def test_a_resumed_study_draws_other_points_than_the_first_session(ledger):
    keys = {"sampler": {"name": "random", "seed": 5}}
    assert [Proposer(study(**keys), "iou", ledger).ask("005")] != proposals(keys, n=1)


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00" + bytes(range(256)) * 40])
def test_the_mirror_is_written_anew_in_each_session(tmp_path, ledger, content):
    database = tmp_path / "optuna.db"
    database.write_bytes(content)
    proposer = Proposer(study(), "iou", ledger)
    Mirror(study(), "study", database).add([proposer.frozen(ledger.entries["001"])])
    kept = optuna.load_study(study_name="study", storage=optuna_url(database))
    assert [trial.user_attrs["trial"] for trial in kept.trials] == ["001"]


def test_a_mirror_that_cannot_be_written_disturbs_nothing(tmp_path, ledger):
    mirror = Mirror(study(), "study", tmp_path / "gone/optuna.db")
    frozen = Proposer(study(), "iou", ledger).frozen(ledger.entries["001"])
    for _ in range(2):
        mirror.add([frozen])


def test_the_rungs_remember_earlier_sessions(ledger):
    own = study(epochs=9, scheduler={"grace_epochs": 1, "reduction_factor": 3})
    fresh, filled = build_scheduler(own, "iou"), build_scheduler(own, "iou")
    replay(filled, ledger)
    assert reports(fresh, 1, [0.1]) == [GO]
    assert reports(filled, 1, [0.1]) == [STOP]  # 1/16, 2/16, 3/16 and 1/16 are there already


def test_networks_that_are_too_large_cost_no_trial_and_are_learnt():
    proposer = Proposer(study(), "iou", excess=lambda config: config["depth"] - 2)
    depths = []
    for number in range(20):
        name = f"{number:03d}"
        config = proposer.ask(name)
        depths.append(config["depth"])
        entry = Entry(name, config)
        entry.results, entry.status = [{"iou": 0.5, "epoch": 1}], "over"
        proposer.tell(entry)
    assert max(depths) <= 2
    refused = [t for t in proposer.optuna.get_trials() if t.constraints["size"] > 0]
    assert refused
    assert {trial.params["depth"] for trial in refused} == {3}
