"""Verified downloads, and extraction of untrusted ZIP archives."""

from __future__ import annotations

import hashlib
import shutil
import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from qcanet_monai.errors import InputError, OutputError, QCANetError
from qcanet_monai.io.suppress_logs import one_line

Progress = Callable[[str, int, int], None]
"""Called with the name of the step, the amount done, and the total (0 if unknown)."""

LIMIT = 2**34  # maximum unpacked bytes: several times BBBC050
_CHUNK = 2**16
_TIMEOUT_S = 60


def silent(_what: str, _done: int, _total: int) -> None:
    """Ignore progress."""


def download(url: str, path: Path, *, sha256: str, progress: Progress = silent) -> None:
    """Download a file and verify its checksum; resume an interrupted download.

    Parameters
    ----------
    url
        HTTP or HTTPS address.
    path
        Destination, renamed from ``NAME.part`` once verified. An existing file is only verified.
    sha256
        Expected SHA-256 in hexadecimal digits.
    progress
        Called with the number of bytes after each chunk.

    Raises
    ------
    InputError
        If the download fails (``NAME.part`` is kept), or the checksum differs (the file is removed).
    OutputError
        If the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        if not path.exists():
            _fetch(url, part, progress)
        file = path if path.exists() else part
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != sha256:
            file.unlink()
            raise InputError(
                f"expected {url} to have the sha256 {sha256}, got {found}: "
                "the file was removed, run again to download it"
            )
        file.replace(path)
    except requests.RequestException as error:  # an OSError too
        raise InputError(
            f"{url} cannot be downloaded: {type(error).__name__}; run again to resume"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {one_line(error)}") from error


def _fetch(url: str, part: Path, progress: Progress) -> None:
    """Download the rest of `part`, or all of it if the server ignores ranges."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        if done and answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # complete, or not a part of this file: the checksum decides
        if answer.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise InputError(
                f"expected the file {url}, got status {answer.status_code}: try again later, "
                "the partial download is kept"
            )
        if answer.status_code == requests.codes.ok:
            done = 0
        length = answer.raw.length_remaining  # None if unknown; a shorter answer raises
        total = done + length if length else 0
        with part.open("ab" if done else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(part.stem, done, total)


def unpack(archive: Path, folder: Path, *, wanted: Callable[[str], bool], limit: int = LIMIT) -> None:
    """Unpack selected files of a ZIP archive, or none if any entry is unsafe.

    Parameters
    ----------
    archive
        ZIP archive.
    folder
        Destination, created if absent. Nothing is written outside it, and no file is overwritten.
    wanted
        Called with the path of a file in the archive (forward slashes); True selects the file.
    limit
        Maximum total size of all files in the archive, in bytes.

    Raises
    ------
    InputError
        If the archive is damaged, encrypted or larger than `limit`. Also if an entry has an absolute path,
        ``..`` or a wrong size, occurs twice, or is neither a file nor a folder.
    OutputError
        If a file cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _check(entries, archive, limit)
            for entry in entries:
                if not entry.is_dir() and wanted(entry.filename):
                    _extract(opened, entry, folder / entry.filename)
    except QCANetError:
        raise
    except OSError as error:
        raise OutputError(f"cannot unpack {archive} into {folder}: {one_line(error)}") from error
    # zipfile and its codecs raise almost any error on a damaged archive
    except Exception as error:
        raise InputError(f"{archive} cannot be unpacked: {one_line(error)}; remove it, run again") from error


def _check(entries: Sequence[zipfile.ZipInfo], archive: Path, limit: int) -> None:
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise InputError(f"{archive} holds {name!r}, a path that leads out of its folder: do not use it")
        kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 in archives made on Windows
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"{archive} holds {name!r}, neither a file nor a folder: do not use it")
        if name in seen:
            raise InputError(f"{archive} holds {name!r} twice: do not use it")
        seen.add(name)
    total = sum(entry.file_size for entry in entries)
    if total > limit:
        raise InputError(
            f"expected {archive} to hold at most {limit / 1e9:.3g} GB, it declares {total / 1e9:.3g} GB: "
            "do not use it"
        )


def _extract(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # zipfile truncates a file longer than declared, and then its checksum fails
    with opened.open(entry) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target)
        size = target.tell()
    if size != entry.file_size:
        raise InputError(
            f"expected {entry.filename!r} in {opened.filename} to have the declared {entry.file_size} bytes, "
            f"got {size}: do not use it"
        )
