"""Studies in object storage, on a real S3 server."""

import json
import shutil
import signal
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSelector

from qcanet_monai.errors import StudyError
from qcanet_monai.tuning import storage
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.ledger import Ledger
from qcanet_monai.tuning.storage import ObjectStorage, joined, local_copy

ACCESS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """Start a server; yield the environment that selects it."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield {**ACCESS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch) -> str:
    """Make a bucket; return its URI."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    name = f"studies-{uuid.uuid4().hex[:8]}"
    request = urllib.request.Request(f"{server['AWS_ENDPOINT_URL']}/{name}", method="PUT")
    urllib.request.urlopen(request).close()
    return f"s3://{name}"


def test_a_part_of_a_place_stands_before_the_options_of_its_address():
    assert joined("s3://bucket/studies/", "mine") == "s3://bucket/studies/mine"
    assert joined("s3://bucket/studies?region=x", "mine") == "s3://bucket/studies/mine?region=x"


def test_a_folder_is_copied_there_and_back_without_what_belongs_elsewhere(bucket, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for name in ("study.json", "best/configs/train.yaml", "ray/1/x", "data/image.tif", "lock.json"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    place = ObjectStorage(f"{bucket}/studies/mine")
    place.push(here)
    assert place.exists("study.json")
    assert not place.exists("ray")
    ObjectStorage(place.uri).pull(there)
    found = sorted(path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file())
    assert found == ["best/configs/train.yaml", "study.json"]
    shutil.rmtree(here / "best")
    place.push(here)
    assert not place.exists("best/configs/train.yaml")
    with local_copy(place.uri) as folder:
        assert [path.name for path in Path(folder).iterdir()] == ["study.json"]
        (Path(folder) / "more.txt").write_text("more")
    assert place.exists("more.txt")


def test_a_ledger_that_was_not_copied_to_its_end_is_kept(bucket, tmp_path):
    place = ObjectStorage(f"{bucket}/mine")
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text("one\n")
    place.push(tmp_path)
    ledger.write_text("one\ntwo\n")
    place.pull(tmp_path)
    assert ledger.read_text() == "one\ntwo\n"
    ledger.write_text("")
    place.pull(tmp_path)
    assert ledger.read_text() == "one\n"


def test_a_study_that_runs_on_another_host_is_refused_and_a_stale_lock_is_not(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "STALE", 1.5)
    place = ObjectStorage(f"{bucket}/mine")
    lock = {"host": "elsewhere", "pid": 7}
    place._write("lock.json", json.dumps(lock).encode())
    ended = threading.Event()

    def renew():
        while not ended.wait(0.3):
            place._write("lock.json", json.dumps(lock).encode())

    thread = threading.Thread(target=renew)
    thread.start()
    with pytest.raises(StudyError, match="is running on elsewhere as process 7"), place.kept(tmp_path):
        pass
    ended.set()
    thread.join()
    with place.kept(tmp_path):
        assert place.exists("lock.json")
    assert not place.exists("lock.json")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://nobody-made-this/studies", "expected an existing bucket .* make it first"),
        ("other://bucket/studies", "cannot use other://bucket/studies/mine: .*"),
    ],
)
@pytest.mark.usefixtures("bucket")
def test_a_place_that_cannot_be_used_is_one_line(place, message):
    with pytest.raises(StudyError, match=message) as caught:
        StudyFolder(place, "mine")
    assert "\n" not in str(caught.value)


def test_a_server_that_does_not_answer_is_told_within_seconds(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    begun = time.monotonic()
    with pytest.raises(StudyError, match=f"cannot use {bucket}/mine: .*check the address"):
        StudyFolder(bucket, "mine")
    assert time.monotonic() - begun < 60


@pytest.mark.slow
def test_a_study_moves_to_another_machine_by_its_storage_alone(bucket, tuning):
    place = f"{bucket}/studies"
    study = replace(
        tuning(
            settings={"folds": 2, "isotropic_spacing_um": 1.6, "depth": 1, "patch_size": 32},
            scheduler={"name": "none"},
            trials=3,
            epochs=4,
        ),
        storage=place,
    )
    remote = ObjectStorage(f"{place}/tiny")
    process = study.start()

    def copied():
        return (
            remote.exists("ledger.jsonl")
            and b'"end"' in remote.fs.open_input_stream(f"{remote.path}/ledger.jsonl").read()
        )

    study.wait(copied, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    here = StudyFolder(place, "tiny").root
    ended = [e.name for e in Ledger(here / "ledger.jsonl").entries.values() if e.status == "over"]
    assert ended
    shutil.rmtree(here)  # another machine
    resumed = study.run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    study.audit(trials=3, epochs=4)
    assert remote.exists("best/models/model.pt")
    assert remote.exists("trials.csv")
    assert not remote.exists("lock.json")
    found = Ledger(StudyFolder(place, "tiny").root / "ledger.jsonl").entries
    for entry in found.values():
        assert remote.exists(str(entry.checkpoint))  # of the best five
        trial = FileSelector(f"{remote.path}/{entry.checkpoint}".rpartition("/")[0])
        assert sum("checkpoint_" in info.base_name for info in remote.fs.get_file_info(trial)) == 1
    assert study.run().returncode == 2  # it exists
