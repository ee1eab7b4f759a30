"""Folder of a study, with checks before a study starts or continues."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from getpass import getuser
from pathlib import Path
from typing import Any

import psutil
import yaml

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.errors import StudyError
from qcanet_monai.io import output_folder, replacing
from qcanet_monai.tuning.ledger import Known, Ledger
from qcanet_monai.tuning.storage import SEPARATOR, ObjectStorage, joined
from qcanet_monai.tuning.study import Simulated, Study

CHANGEABLE = ("trials", "hours", "epochs", "resources", "max_concurrent", "max_failures", "failures")
DATA = "data"  # simulated dataset in the study's folder
STALE = 60.0  # seconds without renewal after which another host's lock is stale


class StudyFolder:
    """Folder ``STORAGE/NAME`` of a study.

    Holds ``study.json``, the bundle's configuration, the records of Ray and Optuna, and the results. On a
    cluster, all nodes share `storage`, or it is the URI of an object storage, such as ``s3://bucket/studies``.
    Then `root` is a copy on this machine, without the checkpoints.
    """

    def __init__(self, storage: str | Path, name: str) -> None:
        place = str(storage).removeprefix("file://")
        self.remote = ObjectStorage(joined(place, name)) if SEPARATOR in place else None
        self.root = Path(place).resolve() / name if self.remote is None else _local(self.remote.uri) / name
        self.name = name
        if self.remote is not None:
            if not self.remote.exists("study.json"):  # a local copy is of a study that was deleted
                shutil.rmtree(self.root, ignore_errors=True)
            self.remote.pull(self.root)

    def check(self, study: Study, *, resume: bool, data: str | Path | None = None) -> None:
        """Raise StudyError unless the study can start or, if `resume`, continue.

        A study cannot start twice. A study continues on its own dataset; its budget and its resources may
        change, and the ranges and choices of its space may widen.
        """
        if self.begun != resume:
            if resume:
                raise StudyError(
                    f"expected a study to continue in {self.root}, found none: start it without --resume"
                )
            raise StudyError(
                f"study {self.name} exists in {self.root}: continue it with --resume, or give another --name"
            )
        if not resume:
            return
        if not (self.root / "ledger.jsonl").is_file() and (self.root / "ray").is_dir():
            raise StudyError(f"{self.root} is of an earlier version: start another study with --name")
        if data is not None and Path(data).resolve() != Path(self.data).resolve():
            raise StudyError(
                f"expected the dataset of the study, {self.data}, got {data}: omit --data, or start another "
                "study with --name"
            )
        before = self.study
        changed = sorted(key for key in Study.model_fields if getattr(before, key) != getattr(study, key))
        fixed = [key for key in changed if key not in CHANGEABLE]
        if "space" in fixed and study.widens(before):
            fixed.remove("space")
        if fixed:
            raise StudyError(
                f"{', '.join(fixed)} changed since {self.root} was started: restore the study's file, or "
                f"start another study with --name; a resume may change {', '.join(CHANGEABLE)} and "
                "widen the space"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study's folder, so that no other process runs the study.

        The lock names host and process. It is stale if its process of this host has ended, or if another
        host does not renew it for a minute; that minute is waited for.
        """
        output_folder(self.root)
        lock = self.root / "lock.json"
        started = psutil.Process().create_time()
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": started})
        with self.writing():
            while True:
                try:
                    with lock.open("x", encoding="utf-8") as file:
                        file.write(text)
                    break
                except FileExistsError:
                    self._remove_stale(lock)
        ended = threading.Event()
        renewal = threading.Thread(target=_renew, args=(lock, ended), daemon=True)
        renewal.start()
        try:
            with nullcontext() if self.remote is None else self.remote.kept(self.root):
                yield
        finally:
            ended.set()
            renewal.join()
            with suppress(OSError):
                lock.unlink()
            with suppress(OSError):  # left empty by a study that could not start
                self.root.rmdir()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise an error of the disk, such as no space, as a one-line StudyError."""
        try:
            yield
        except OSError as error:
            full = f"[Errno {errno.ENOSPC}]" in str(error)  # shutil collects errors as text
            if error.errno is None and not full:
                raise  # of a network, not of the disk
            reason = os.strerror(errno.ENOSPC) if full else str(error).splitlines()[0]
            raise StudyError(
                f"cannot write {self.root}: {reason.lower()}; make room, then continue with --resume"
            ) from error

    def _remove_stale(self, lock: Path) -> None:
        """Remove a stale lock; raise StudyError for one that is held."""
        host, pid, held = "an unknown host", 0, False
        try:
            text = lock.read_text(encoding="utf-8")
            with suppress(ValueError, KeyError, TypeError):  # its writer is about to finish, or was killed
                holder = json.loads(text)
                host, pid, started = str(holder["host"]), int(holder["pid"]), float(holder["started"])
            held = _runs(pid, started) if host == socket.gethostname() else _renewed(lock)
            if not held:
                taken = lock.with_suffix(f".{uuid.uuid4().hex}")
                lock.rename(taken)
                if taken.read_text(encoding="utf-8") == text:
                    taken.unlink()
                else:  # another process removed the stale lock first, and holds this one
                    taken.rename(lock)
        except FileNotFoundError:
            return  # released meanwhile
        if held:
            raise StudyError(
                f"study {self.name} is running on {host} as process {pid}: wait for its end, or stop it first"
            )

    @property
    def begun(self) -> bool:
        """True if the study has started and can be continued."""
        return self._file.is_file()

    @property
    def _file(self) -> Path:
        return self.root / "study.json"

    def _content(self) -> dict[str, Any]:
        return json.loads(self._file.read_text(encoding="utf-8"))

    @property
    def study(self) -> Study:
        """Study as it was last started or continued."""
        return Study.model_validate(self._content()["study"])

    def update(self, study: Study) -> None:
        """Record the changed budget, resources or space of a study that continues."""
        content = {**self._content(), "study": study.model_dump(mode="json")}
        self._write(content)
        if content["data"] == DATA and isinstance(study.data, Simulated):  # absent on another machine
            self._simulate(study.data)

    def _write(self, content: Mapping[str, Any]) -> None:
        with replacing(self._file) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @property
    def id(self) -> str:
        """Unique id of the study, unchanged by a resume."""
        return str(self._content()["id"])

    @property
    def data(self) -> str:
        """Dataset folder that the study started with."""
        return str(self.root / self._content()["data"])

    def uri(self, part: str) -> str:
        """Return the path or URI of a file or folder of the study, the same on all nodes."""
        return str(self.root / part) if self.remote is None else self.remote.part(part)

    def begin(
        self, study: Study, bundle: Bundle, data: str | Path | None, known: Iterable[Known] = ()
    ) -> None:
        """Write the bundle's configuration, data, known trials and, last, ``study.json``."""
        output_folder(self.root)
        self._copy_bundle(bundle.folder)
        if data is None and isinstance(study.data, Simulated):
            self._simulate(study.data)
            data = DATA
        (self.root / "ledger.jsonl").unlink(missing_ok=True)  # of a start that was interrupted here
        ledger = Ledger(self.root / "ledger.jsonl")
        for one in known:
            ledger.learn(one.settings, one.result)
        content = {"id": uuid.uuid4().hex, "data": str(data), "study": study.model_dump(mode="json")}
        self._write(content)

    @property
    def bundle(self) -> Path:
        """Copy of the bundle's configuration, made when the study started."""
        return self.root / "bundle"

    def _copy_bundle(self, bundle: Path) -> None:
        for name in ("configs", "docs"):
            if (bundle / name).is_dir():
                shutil.copytree(bundle / name, self.bundle / name, dirs_exist_ok=True)
        if (bundle / "LICENSE").is_file():
            shutil.copyfile(bundle / "LICENSE", self.bundle / "LICENSE")

    def _simulate(self, what: Simulated) -> None:
        folder = self.root / DATA
        if not folder.is_dir():  # an existing folder is complete
            simulate_dataset(folder, **what.model_dump())


def write_yaml(path: Path, content: object, header: str = "") -> None:
    """Write `content` as YAML below a comment header."""
    with replacing(path) as temporary:
        temporary.write_text(header + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _local(uri: str) -> Path:
    """Return the folder on this machine for copies of a place in object storage."""
    digest = hashlib.sha256(uri.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"qcanet-{getuser()}" / "studies" / digest


def _runs(pid: int, started: float) -> bool:
    """Return whether this host's process runs and began when it says."""
    try:
        return abs(psutil.Process(pid).create_time() - float(started)) < 2
    except psutil.Error:
        return False


def _renewed(lock: Path) -> bool:
    """Wait until a lock is renewed, or for the time after which it is stale."""
    before, end = lock.stat().st_mtime, time.monotonic() + STALE
    while time.monotonic() < end:
        time.sleep(STALE / 60)
        if lock.stat().st_mtime != before:
            return True
    return False


def _renew(lock: Path, ended: threading.Event) -> None:
    while not ended.wait(STALE / 4):
        with suppress(OSError):
            os.utime(lock)
