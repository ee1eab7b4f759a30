"""Studies survive killed trials, interrupted and killed drivers, killed nodes."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
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

    def held():  # the first to begin waits for the second, which may be later than a whole trial takes
        for row in begun(study):
            os.kill(row["pid"], signal.SIGSTOP)
        return len(begun(study)) == 2 and begun(study)

    both = study.wait(held, process)
    nodes = {Path(f"/proc/{row['pid']}").exists() and os.getsid(row["pid"]) for row in both}
    assert len(nodes) == 2  # one trial on each
    cluster.kill_second()
    for row in both:
        with contextlib.suppress(ProcessLookupError):
            os.kill(row["pid"], signal.SIGCONT)
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    study.audit(trials=3, epochs=5)


def test_a_driver_without_the_clusters_token_is_told_so_in_one_line(tuning, cluster):
    refused = tuning().run("--address", cluster.address)
    assert refused.returncode == 2
    assert lines(refused.stderr) == [
        f"qcanet: expected the token of the Ray cluster at {cluster.address}, got another or none: set "
        "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file of the token"
    ]


def lines(errors):
    return [line for line in errors.splitlines() if not line.endswith("…") and not line.startswith("trial ")]


def test_a_second_driver_is_refused_and_the_first_ends_well(tuning):
    study = tuning(**SLOW, trials=2)
    process = study.start()
    study.wait(lambda: begun(study), process)
    process.send_signal(signal.SIGSTOP)  # on a fast machine it would end before the second begins
    second = study.run("--resume")
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    (told,) = lines(second.stderr)
    assert f"is running on {os.uname().nodename} as process {process.pid}" in told
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    study.audit(trials=2, epochs=5)
    assert not (study.root / "lock.json").exists()


def test_a_study_goes_on_with_more_trials_on_more_cores(tuning):
    study = tuning(**SLOW, trials=2)
    process = study.start()
    study.wait(lambda: begun(study), process)
    process.kill()
    process.communicate()
    killed = study.run("--resume", "--cpus", "2")
    assert killed.returncode == 0, killed.stderr
    study.audit(trials=2, epochs=5)
    more = study.run("--resume", "--trials", "4")
    assert more.returncode == 0, more.stderr
    study.audit(trials=4, epochs=5)
    assert "4 trials, 4 finished" in more.stdout
    assert "page: http://127.0.0.1:5000/#/experiments/" in more.stdout
    assert f"next: qcanet promote nsn --study tiny --tracking-uri {study.uri}" in more.stdout
    assert len(json.loads((study.root / "summary.json").read_text())["trials"]) == 3
    parent, _ = study.runs()
    assert study.steps(parent, "best_iou") == [1, 2, 3, 4]


def test_like_failures_end_the_study_which_goes_on_once_they_are_mended(tuning, tmp_path):
    study = tuning(**SLOW, trials=6, max_failures=3)
    study.data = Path(shutil.copytree(study.data, tmp_path / "data"))
    process = study.start()
    study.wait(lambda: over(study), process)
    study.data.rename(tmp_path / "gone")
    shutil.rmtree(study.folder / "cache")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 2
    told = lines(errors)[-1]
    assert "3 of " in told
    assert "trials failed alike: " in told
    assert str(study.data) in told
    parent, children = study.runs()
    assert parent.info.status == "FAILED"
    assert "failed alike" in parent.data.tags["failure"]
    assert sum(run.info.status == "FAILED" for run in children) >= 3  # another may have begun meanwhile
    (tmp_path / "gone").rename(study.data)
    resumed = study.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "6 trials, 6 finished" in resumed.stdout
    study.audit(trials=6, epochs=5)
    parent, children = study.runs()
    assert not any(run.data.tags.get("failure") for run in (parent, *children))


@pytest.fixture
def small_disk(tmp_path):
    """Mount 12 MB of memory as a disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs the rights to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_nothing_that_was_done(tuning, small_disk):
    study = tuning(**SLOW, trials=3)
    study.storage = small_disk
    process = study.start()
    study.wait(lambda: over(study), process)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while process.poll() is None:  # what the study frees is filled too
            with contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            time.sleep(0.05)
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert len(lines(errors)) <= 2, errors
    assert re.search("no space left on device|disk is full", lines(errors)[-1], re.I)
    finished = over(study)
    filler.unlink()
    resumed = study.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "3 trials, 3 finished" in resumed.stdout
    assert finished <= over(study)
    study.audit(trials=3, epochs=5)
