"""A study's folder: one process at a time, one dataset, a budget that may change."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from qcanet_monai.errors import StudyError
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.study import Study

SPACE = {
    "depth": {"low": 1, "high": 3},
    "optimizer": {"choices": ["sgd", "adam"]},
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
}
HOLD = """
import sys, time
from qcanet_monai.tuning.folder import StudyFolder
with StudyFolder(sys.argv[1], "mine").locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def study(**keys):
    return Study.model_validate({"bundle": "nsn", "space": SPACE, **keys})


@pytest.fixture
def folder(tmp_path):
    """Begin a study on a dataset."""
    made = StudyFolder(tmp_path, "mine")
    made.root.mkdir()
    made._write({"id": "x", "data": str(tmp_path / "data"), "study": study().model_dump(mode="json")})
    return made


@pytest.fixture
def holder(folder):
    """Hold the lock in another process."""
    command = [sys.executable, "-c", HOLD, str(folder.root.parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_running_study_is_refused_with_host_and_process(folder, holder):
    with pytest.raises(StudyError) as caught, folder.locked():
        pass
    assert str(caught.value) == (
        f"study mine is running on {socket.gethostname()} as process {holder.pid}: wait for its end, or stop "
        "it first"
    )
    holder.communicate()
    with folder.locked():
        assert (folder.root / "lock.json").is_file()
    assert not (folder.root / "lock.json").exists()


def test_the_lock_of_a_killed_process_is_stale(folder, holder):
    holder.kill()
    holder.wait()
    with folder.locked():
        assert json.loads((folder.root / "lock.json").read_text())["pid"] == os.getpid()


def test_the_lock_of_an_earlier_process_with_the_same_number_is_stale(folder):
    lock = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time() - 10_000}
    (folder.root / "lock.json").write_text(json.dumps(lock))
    with folder.locked():
        pass


@pytest.mark.parametrize("text", ['{"host": "elsewhere", "pid": 1, "started": 0}', ""])
def test_a_lock_of_another_host_holds_as_long_as_it_is_renewed(folder, text, monkeypatch):
    monkeypatch.setattr("qcanet_monai.tuning.folder.STALE", 2.0)
    lock = folder.root / "lock.json"
    lock.write_text(text)
    renewal = threading.Timer(0.5, os.utime, [lock])
    renewal.start()
    with pytest.raises(StudyError, match="is running on"), folder.locked():
        pass
    with folder.locked():  # nobody renews it any more
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_a_lock_on_a_full_disk_is_refused_in_one_line(folder, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StudyError, match="no space left on device; make room"), folder.locked():
        pass


def test_a_folder_that_nothing_was_written_to_disappears(tmp_path):
    with StudyFolder(tmp_path, "new").locked():
        pass
    assert not (tmp_path / "new").exists()


def test_an_error_of_the_disk_is_one_line(folder):
    errors = [("a", "b", "[Errno 28] No space left on device: 'b'"), ("c", "d", "[Errno 28] No space left")]
    for error in (OSError(28, "No space left on device"), shutil.Error(errors)):
        with pytest.raises(StudyError, match="mine: no space left on device; make room"), folder.writing():
            raise error


def test_a_resume_on_another_dataset_is_refused(folder, tmp_path):
    folder.check(study(), resume=True, data=tmp_path / "data")
    with pytest.raises(StudyError, match=r"expected the dataset of the study, .*/data, got .*/other"):
        folder.check(study(), resume=True, data=tmp_path / "other")


@pytest.mark.parametrize(
    "change",
    [
        *({"trials": 99}, {"hours": 2}, {"epochs": 81}, {"resources": {"cpu": 4}}, {"max_concurrent": 3}),
        {"space": {**SPACE, "depth": {"low": 1, "high": 5}}},
        {"space": {**SPACE, "optimizer": {"choices": ["sgd", "adam", "adamw"]}}},
    ],
)
def test_a_budget_resources_and_a_wider_space_may_change(folder, change):
    folder.check(study(**change), resume=True)
    folder.update(study(**change))
    assert folder.study == study(**change)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"space": {**SPACE, "depth": {"low": 2, "high": 3}}}, "space"),
        ({"space": {**SPACE, "depth": {"choices": [1, 2, 3]}}}, "space"),
        ({"space": {**SPACE, "optimizer": {"choices": ["sgd"]}}}, "space"),
        ({"space": {**SPACE, "learning_rate": {"low": 1e-3, "high": 1e-2}}}, "space"),
        ({"space": {**SPACE, "channels": {"choices": [4]}}}, "space"),
        ({"settings": {"patch_size": 32}}, "settings"),
        ({"sampler": {"name": "random"}}, "sampler"),
    ],
)
def test_anything_else_that_changed_is_refused_by_name(folder, change, key):
    with pytest.raises(StudyError, match=f"^{key} changed since .*: restore the study's file"):
        folder.check(study(**change), resume=True)
