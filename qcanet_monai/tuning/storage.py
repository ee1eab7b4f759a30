"""Object storage for studies, such as S3, by Arrow's filesystems."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pyarrow import fs

from qcanet_monai.errors import StudyError
from qcanet_monai.io import replacing

if TYPE_CHECKING:
    from ray.tune import Checkpoint

SEPARATOR = "://"
INTERVAL = 10.0  # seconds between two copies to the storage
STALE = 60.0  # seconds without renewal after which another host's lock is stale
_ELSEWHERE = ("ray", "data", "lock.json")  # written by Ray itself, simulated again, or of this host only
_LOCK = "lock.json"


class ObjectStorage:
    """Study's folder in object storage, copied to and from a local folder.

    Parameters
    ----------
    uri
        Folder, such as ``s3://bucket/studies/NAME``; access data come from the environment, as for Ray.

    Raises
    ------
    StudyError
        If the filesystem is unknown or does not answer.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._states: dict[str, tuple[int, int]] = {}
        try:
            self.fs, self.path = fs.FileSystem.from_uri(uri)
            bucket = PurePosixPath(self.path).parts[0]
            found = self.fs.get_file_info(bucket).type
        except (OSError, ValueError, NotImplementedError, IndexError) as error:
            raise self._error("cannot use", error) from error
        if found == fs.FileType.NotFound:
            raise StudyError(f"expected an existing bucket for {uri}, found no {bucket}: make it first")

    def part(self, name: str) -> str:
        """Return the URI of a file or folder inside."""
        return joined(self.uri, name)

    def exists(self, name: str) -> bool:
        """Return whether a file or folder inside exists."""
        return self._info(name).type != fs.FileType.NotFound

    def pull(self, root: Path) -> None:
        """Copy what the storage holds to a local folder; a longer ledger there stays."""
        for info in self._files():
            name = self._name(info)
            target = root / name
            if name == "ledger.jsonl" and target.is_file() and target.stat().st_size >= info.size:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._talking():
                content = self.fs.open_input_stream(info.path).read()
            with replacing(target) as temporary:
                temporary.write_bytes(content)
            self._states[name] = _state(target)

    def push(self, root: Path) -> None:
        """Copy what has changed in a local folder to the storage."""
        present = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        present = {name: path for name, path in present.items() if not _elsewhere(name)}
        with self._talking():
            for name, path in present.items():
                with suppress(FileNotFoundError):  # replaced meanwhile
                    state = _state(path)
                    if self._states.get(name) != state:
                        self._write(name, path.read_bytes())
                        self._states[name] = state
            for name in self._states.keys() - present.keys():
                with suppress(FileNotFoundError):
                    self.fs.delete_file(f"{self.path}/{name}")
                del self._states[name]

    @contextmanager
    def kept(self, root: Path) -> Iterator[None]:
        """Hold the storage's lock; copy `root` there every few seconds.

        Raises
        ------
        StudyError
            If another host holds the lock, or the last copy fails.
        """
        mine = {"host": socket.gethostname(), "pid": os.getpid()}
        self._lock(mine)
        self.pull(root)
        ended = threading.Event()
        thread = threading.Thread(target=self._keep, args=(root, mine, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            try:
                self.push(root)
            finally:
                with suppress(OSError):
                    self.fs.delete_file(f"{self.path}/{_LOCK}")

    def _keep(self, root: Path, mine: dict[str, Any], ended: threading.Event) -> None:
        while not ended.wait(INTERVAL):
            with suppress(StudyError, OSError):  # tried again, and told at the end
                self._write(_LOCK, json.dumps(mine).encode())
                self.push(root)

    def _lock(self, mine: dict[str, Any]) -> None:
        """Take the lock; wait whether another host renews it."""
        with self._talking():
            before = self._info(_LOCK)
            end = time.monotonic() + STALE
            while before.type != fs.FileType.NotFound and time.monotonic() < end:
                holder = json.loads(self.fs.open_input_stream(before.path).read())
                if holder["host"] == mine["host"]:  # its lock in the local folder has been checked
                    break
                time.sleep(STALE / 60)
                now = self._info(_LOCK)
                if now.mtime != before.mtime and now.type != fs.FileType.NotFound:
                    raise StudyError(
                        f"the study in {self.uri} is running on {holder['host']} as process {holder['pid']}: "
                        "wait for its end, or stop it first"
                    )
                before = now
            self._write(_LOCK, json.dumps(mine).encode())

    def _write(self, name: str, content: bytes) -> None:
        with self.fs.open_output_stream(f"{self.path}/{name}") as stream:
            stream.write(content)

    def _info(self, name: str) -> fs.FileInfo:
        return self.fs.get_file_info(f"{self.path}/{name}")

    def _name(self, info: fs.FileInfo) -> str:
        return PurePosixPath(info.path).relative_to(self.path).as_posix()

    def _files(self) -> list[fs.FileInfo]:
        with self._talking():
            selector = fs.FileSelector(self.path, allow_not_found=True)
            found: list[fs.FileInfo] = []
            for info in self.fs.get_file_info(selector):
                if _elsewhere(self._name(info)):
                    continue
                inside = fs.FileSelector(info.path, recursive=True)
                found += [info] if info.is_file else self.fs.get_file_info(inside)
            return [info for info in found if info.is_file]

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error("cannot reach", error) from error

    def _error(self, what: str, error: Exception) -> StudyError:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return StudyError(
            f"{what} {self.uri}: {reason}; check the address and the access data, then try again"
        )


def joined(place: str, name: str) -> str:
    """Return the path or URI of a file in a folder, before the options of a URI."""
    base, question, query = place.partition("?")
    return f"{base.rstrip('/')}/{name}{question}{query}"


@contextmanager
def local_copy(place: str) -> Iterator[str]:
    """Yield a local folder for a folder's path or URI; copy changes back at the end."""
    if SEPARATOR not in place:
        yield place
        return
    storage = ObjectStorage(place)
    with tempfile.TemporaryDirectory(prefix="qcanet-storage-") as temporary:
        storage.pull(Path(temporary))
        yield temporary
        storage.push(Path(temporary))


def _elsewhere(name: str) -> bool:
    return PurePosixPath(name).parts[0] in _ELSEWHERE


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def exists(place: str) -> bool:
    """Return whether a folder exists, given its path or URI."""
    from ray.tune import Checkpoint

    checkpoint = Checkpoint(place)
    return bool(checkpoint.filesystem.get_file_info(checkpoint.path).type != fs.FileType.NotFound)


def delete(checkpoint: Checkpoint) -> None:
    """Delete a checkpoint, if it is there."""
    with suppress(OSError):
        checkpoint.filesystem.delete_dir(checkpoint.path)
