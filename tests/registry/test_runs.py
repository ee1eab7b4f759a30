"""Runs are found again by their tags, and nothing is logged twice."""

import math
import secrets
import sqlite3

import pytest

from qcanet_monai.registry.runs import PARENT, RunLog, find_run, find_runs
from qcanet_monai.registry.store import connect, experiment


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('runs') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def client(uri):
    return connect(uri)


@pytest.fixture
def where(client, uri):
    return client, experiment(client, uri, secrets.token_hex(4))


def history(client, run, name) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.id, name)]


def test_a_run_is_found_again_by_its_tags(where):
    first = RunLog(*where, {"study_id": "a", "trial_id": "1"}, "one")
    assert RunLog(*where, {"study_id": "a", "trial_id": "1"}, "another name").id == first.id
    assert RunLog(*where, {"study_id": "a"}, "fewer tags").id == first.id
    others = [RunLog(*where, {"study_id": "a", "trial_id": "2"}, "two").id]
    others.append(RunLog(*where, {"study_id": "b", "trial_id": "1"}, "three").id)
    assert len({first.id, *others}) == 3
    assert where[0].get_run(first.id).info.run_name == "one"


@pytest.mark.parametrize("value", ["a b", "50 %", "a=b and c", "O'Brien", 'say "hi"', "é", "back\\slash"])
def test_a_run_is_found_again_whatever_its_tags_are(where, value):
    made = RunLog(*where, {"study": value}, "run")
    assert RunLog(*where, {"study": value}, "run").id == made.id
    assert [run.info.run_id for run in find_runs(*where, {"study": value})] == [made.id]


def test_a_run_of_another_experiment_is_another(where, client, uri):
    made = RunLog(*where, {"study": "a"}, "run")
    assert RunLog(client, experiment(client, uri, "other"), {"study": "a"}, "run").id != made.id


def test_a_run_that_is_given_is_not_searched_for(where):
    made = RunLog(*where, {"study": "a"}, "run")
    found = where[0].get_run(made.id)
    assert RunLog(*where, {"study": "b"}, "run", found=found).id == made.id


def test_a_new_run_goes_on_and_carries_its_tags(where):
    made = RunLog(*where, {"study": "a"}, "run")
    run = where[0].get_run(made.id)
    assert made.status == run.info.status == "RUNNING"
    assert run.data.tags["study"] == "a"
    assert PARENT not in run.data.tags


def test_a_child_is_nested_under_its_parent(where):
    parent = RunLog(*where, {"role": "study"}, "study")
    children = [RunLog(*where, {"trial_id": str(i)}, str(i), parent=parent.id) for i in range(2)]
    found = find_runs(*where, {PARENT: parent.id})
    assert PARENT == "mlflow.parentRunId"
    assert {run.info.run_id for run in found} == {child.id for child in children}


def test_parameters_are_logged_once_and_stay(where):
    key = {"study": "a"}
    RunLog(*where, key, "run").describe({"depth": 2, "loss": "dice"}, {})
    again = RunLog(*where, key, "run")
    again.describe({"depth": 3, "channels": 8}, {})
    again.describe({"depth": 4, "channels": 9}, {})
    assert where[0].get_run(again.id).data.params == {"depth": "2", "loss": "dice", "channels": "8"}


def test_tags_follow_what_they_are_told_last(where):
    run = RunLog(*where, {"study": "a"}, "run")
    run.describe({}, {"status": "stopped", "epochs": 3})
    run.describe({}, {"status": "finished"})
    tags = where[0].get_run(run.id).data.tags
    assert (tags["study"], tags["status"], tags["epochs"]) == ("a", "finished", "3")


def test_a_hash_in_a_parameters_name_becomes_a_point(where):
    run = RunLog(*where, {"study": "a"}, "run")
    for _ in range(2):
        run.describe({"betas#0": 0.9, "betas#1": 0.99}, {})
    RunLog(*where, {"study": "a"}, "run").describe({"betas#0": 0.8}, {})
    assert where[0].get_run(run.id).data.params == {"betas.0": "0.9", "betas.1": "0.99"}


def test_as_many_parameters_as_a_bundle_may_have_are_logged_at_once(where):
    run = RunLog(*where, {"study": "a"}, "run")
    params = {f"p{i}": str(i) for i in range(150)}
    run.describe(params, {})
    assert where[0].get_run(run.id).data.params == params


def test_a_step_is_logged_once_and_later_ones_are_added(where):
    key = {"study": "a"}
    run = RunLog(*where, key, "run")
    run.log({"iou": 0.1}, 1)
    run.log({"iou": 0.2}, 2)
    run.log({"iou": 0.9}, 2)
    again = RunLog(*where, key, "run")
    for step, value in ((1, 0.7), (2, 0.7), (3, 0.3)):
        again.log({"iou": value}, step)
    assert history(where[0], run, "iou") == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert where[0].get_run(run.id).data.metrics == {"iou": 0.3}


def test_each_metric_has_steps_of_its_own(where):
    run = RunLog(*where, {"study": "a"}, "run")
    run.log({"loss": 3.0}, 1)
    run.log({"loss": 2.0, "iou": 0.2}, 2)
    again = RunLog(*where, {"study": "a"}, "run")
    again.log({"loss": 9.0, "iou": 0.9, "rate": 0.5}, 2)
    assert history(where[0], run, "loss") == [(1, 3.0), (2, 2.0)]
    assert history(where[0], run, "iou") == [(2, 0.2)]
    assert history(where[0], run, "rate") == [(2, 0.5)]


def test_step_0_is_a_step(where):
    for value in (0.5, 0.6):
        run = RunLog(*where, {"study": "a"}, "run")
        run.log({"best": value}, 0)
    assert history(where[0], run, "best") == [(0, 0.5)]


def test_a_value_that_is_no_number_is_left_out_and_may_follow(where):
    run = RunLog(*where, {"study": "a"}, "run")
    run.log({"loss": math.nan, "rate": math.inf, "iou": 0.5}, 1)
    run.log({"loss": -math.inf}, 2)
    assert where[0].get_run(run.id).data.metrics == {"iou": 0.5}
    run.log({"loss": 1.0, "rate": 2.0}, 1)
    assert history(where[0], run, "loss") == [(1, 1.0)]


@pytest.mark.parametrize("end", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_and_goes_on_and_ends(where, end):
    def status():
        return where[0].get_run(run.id).info.status

    run = RunLog(*where, {"study": "a"}, "run")
    run.close(end)
    assert (run.status, status()) == (end, end)
    assert where[0].get_run(run.id).info.end_time
    again = RunLog(*where, {"study": "a"}, "run")
    assert again.status == end
    again.open()
    assert (again.status, status()) == ("RUNNING", "RUNNING")
    again.close("FINISHED")
    assert (again.status, status()) == ("FINISHED", "FINISHED")


def test_ending_twice_keeps_the_first_end(where):
    run = RunLog(*where, {"study": "a"}, "run")
    run.close("FINISHED")
    ended = where[0].get_run(run.id).info.end_time
    RunLog(*where, {"study": "a"}, "run").close("FINISHED")
    assert where[0].get_run(run.id).info.end_time == ended


def test_files_folders_and_texts_are_kept(where, tmp_path):
    run = RunLog(*where, {"study": "a"}, "run")
    (tmp_path / "bundle/configs").mkdir(parents=True)
    (tmp_path / "bundle/configs/train.yaml").write_text("depth: 2\n")
    (tmp_path / "table.csv").write_text("a\n1\n")
    run.artifact(tmp_path / "bundle", "bundle")
    run.artifact(tmp_path / "table.csv")
    run.text("epochs: 3\n", "config.yaml")
    got = tmp_path / "got"
    got.mkdir()
    where[0].download_artifacts(run.id, "", str(got))
    assert {p.relative_to(got).as_posix(): p.read_text() for p in got.rglob("*") if p.is_file()} == {
        "bundle/configs/train.yaml": "depth: 2\n",
        "table.csv": "a\n1\n",
        "config.yaml": "epochs: 3\n",
    }


def test_what_is_not_there_is_not_found(where):
    assert find_run(*where, {"study": "a"}) is None
    assert find_runs(*where, {"study": "a"}) == []


def test_the_newest_run_is_found_first(where):
    client, experiment_id = where
    made = [
        client.create_run(experiment_id, start_time=start, tags={"study": "a"}).info.run_id
        for start in (2000, 3000, 1000)
    ]
    found = [run.info.run_id for run in find_runs(*where, {"study": "a"})]
    assert found == [made[1], made[0], made[2]]
    assert find_run(*where, {"study": "a"}).info.run_id == made[1]


def test_a_deleted_run_is_not_found(where):
    run = RunLog(*where, {"study": "a"}, "run")
    where[0].delete_run(run.id)
    assert find_run(*where, {"study": "a"}) is None


def test_all_runs_are_found_though_mlflow_gives_a_thousand_at_a_time(where, uri):
    first = RunLog(*where, {"study": "a"}, "run")
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:  # a thousand real runs take long
        connection.execute(
            "create temp table copies as with recursive n(i) as "
            "(select 1 union all select i + 1 from n where i < 1100) select i from n"
        )
        for table in ("runs", "tags"):
            names = [row[1] for row in connection.execute(f"pragma table_info({table})")]
            values = ["'copy' || i" if name == "run_uuid" else name for name in names]
            connection.execute(
                f"insert into {table} ({', '.join(names)}) select {', '.join(values)} "
                f"from {table}, copies where run_uuid = ?",
                [first.id],
            )
    found = [run.info.run_id for run in find_runs(*where, {"study": "a"})]
    assert len(found) == 1101
    assert set(found) == {first.id, *(f"copy{i}" for i in range(1, 1101))}
