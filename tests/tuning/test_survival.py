"""Studies survive killed trials, interrupted and killed drivers, killed nodes."""

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# slow enough to be interrupted
SLOW = {
    "settings": {"folds": 2, "isotropic_spacing_um": 1.6, "depth": 1, "patch_size": 32},
    "scheduler": {"name": "none"},
    "epochs": 5,
}


def begun(tuning, epochs=1):
    """Find trials with some epochs done that still run."""
    return [rows[-1] for rows in tuning.results().values() if epochs <= rows[-1]["epoch"] < SLOW["epochs"]]


def over(tuning):
    return {name for name, rows in tuning.results().items() if rows[-1]["epoch"] == SLOW["epochs"]}


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


def next_begun(study, process):
    before = over(study)
    (row, *_) = study.wait(lambda: over(study) > before and begun(study), process)
    return row, over(study)


def test_a_study_survives_a_killed_trial_an_interrupt_and_a_killed_driver(tuning):
    study = tuning(**SLOW, trials=4)
    process = study.start()

    # first trial: its process is killed, it resumes from its checkpoint
    (killed, *_) = study.wait(lambda: begun(study, 2), process)
    os.kill(killed["pid"], signal.SIGKILL)
    next_begun(study, process)
    rows = study.results()[killed["trial_id"]]
    assert len({row["pid"] for row in rows}) == 2
    assert next(row["epoch"] for row in rows if row["pid"] != killed["pid"]) > 1  # it did not start over

    # second trial: the driver is interrupted
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 130, errors
    assert "--resume to continue" in errors.splitlines()[-1]
    parent, children = study.runs()
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in children} <= {"KILLED", "FINISHED"}

    # third trial: the driver is killed
    process = study.start("--resume")
    running, finished = next_begun(study, process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while alive(running["pid"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not alive(running["pid"])  # no process remains
    _, children = study.runs()
    assert "RUNNING" in {run.info.status for run in children}
    before = {run.data.tags["trial_id"]: run.info.end_time for run in children}
    assert study.run().returncode == 2  # a second start without --resume

    resumed = study.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    study.audit(trials=4, epochs=5)
    _, children = study.runs()
    after = {run.data.tags["trial_id"]: run.info.end_time for run in children}
    assert {name: after[name] for name in finished} == {name: before[name] for name in finished}
    for rows in study.results().values():
        assert {row["epoch"] for row in rows} == {1, 2, 3, 4, 5}


def test_the_trials_of_a_killed_node_move_to_another(tuning, cluster):
    study = tuning(**SLOW, trials=3, max_concurrent=2)
    process = study.start("--address", cluster.address, env=cluster.settings)
    both = study.wait(lambda: len(rows := begun(study)) == 2 and rows, process)
    nodes = {Path(f"/proc/{row['pid']}").exists() and os.getsid(row["pid"]) for row in both}
    assert len(nodes) == 2  # one trial on each
    cluster.kill_second()
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    study.audit(trials=3, epochs=5)
