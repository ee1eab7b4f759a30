"""What a study survives: a killed trial, a killed driver, a killed node."""

import os
import signal
import time
from pathlib import Path

# slow enough to be caught at work
SLOW = {
    "settings": {"folds": 2, "grid": 1.25, "depth": 1, "patch_size": 32},
    "scheduler": {"name": "none"},
    "epochs": 5,
}


def begun(tuning, epochs=1):
    """Trials that have done some epochs and are not through."""
    return [rows[-1] for rows in tuning.results().values() if epochs <= rows[-1]["epoch"] < SLOW["epochs"]]


def over(tuning):
    return [rows[-1]["trial_id"] for rows in tuning.results().values() if rows[-1]["epoch"] == SLOW["epochs"]]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


def test_a_killed_trial_goes_on_from_its_checkpoint(tuning):
    study = tuning(**SLOW)
    process = study.start()
    (row, *_) = study.wait(lambda: begun(study, 2), process)
    os.kill(row["pid"], signal.SIGKILL)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    study.audit(trials=3, epochs=5)
    rows = study.results()[row["trial_id"]]
    assert len({r["pid"] for r in rows}) == 2
    first = next(r["epoch"] for r in rows if r["pid"] != row["pid"])
    assert first > 1  # it did not begin anew


def test_a_killed_driver_is_resumed_without_repeating_what_is_done(tuning):
    study = tuning(**SLOW)
    process = study.start()
    (finished, *_), (running, *_) = study.wait(
        lambda: (done := over(study)) and (going := begun(study)) and (done, going), process
    )
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while alive(running["pid"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not alive(running["pid"])  # nothing of it is left at work
    _, children = study.runs()
    assert "RUNNING" in {run.info.status for run in children}
    before = next(run for run in children if run.data.tags["trial_id"] == finished)

    assert study.run().returncode == 2  # a second start without --resume
    resumed = study.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    study.audit(trials=3, epochs=5)
    _, children = study.runs()
    after = next(run for run in children if run.data.tags["trial_id"] == finished)
    assert after.info.end_time == before.info.end_time
    rows = study.results()
    assert [row["epoch"] for row in rows[finished]] == [1, 2, 3, 4, 5]
    assert {row["epoch"] for row in rows[running["trial_id"]]} == {1, 2, 3, 4, 5}


def test_an_interrupted_study_says_so_and_is_resumed(tuning):
    study = tuning(**SLOW)
    process = study.start()
    study.wait(lambda: begun(study), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 130, errors
    assert "--resume goes on" in errors.splitlines()[-1]
    parent, children = study.runs()
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in children} <= {"KILLED", "FINISHED"}
    resumed = study.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    study.audit(trials=3, epochs=5)


def test_the_trials_of_a_killed_node_move_to_another(tuning, cluster):
    address, env, kill_second = cluster
    study = tuning(**SLOW, trials=4, max_concurrent=2)
    process = study.start("--address", address, env=env)
    both = study.wait(lambda: len(rows := begun(study)) == 2 and rows, process)
    nodes = {Path(f"/proc/{row['pid']}").exists() and os.getsid(row["pid"]) for row in both}
    assert len(nodes) == 2  # a trial on each
    kill_second()
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    study.audit(trials=4, epochs=5)
