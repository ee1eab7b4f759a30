"""Files from the web, whole and unaltered, and archives that are not trusted."""

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
"""Called with what is done, how much of it, and out of how much; 0 where that is not known."""

LIMIT = 2**34  # bytes that an archive may hold: several times BBBC050
_CHUNK = 2**16
_TIMEOUT_S = 60


def silent(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


def download(url: str, path: Path, *, sha256: str, progress: Progress = silent) -> None:
    """Fetch a file, going on where an earlier call was interrupted.

    Parameters
    ----------
    url
        An http or https address.
    path
        Where the file goes; it appears when it is whole and right. Until then it is ``NAME.part``, which an
        interruption leaves. A file that is there already is not fetched again, but checked.
    sha256
        What the file must be, in hexadecimal digits.
    progress
        Told the bytes after each piece.

    Raises
    ------
    InputError
        If the server does not give the file (what came of it is kept), or another one (which is removed).
    OutputError
        If it cannot be written.
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
                "the file was removed, run again to download it anew"
            )
        file.replace(path)
    except requests.RequestException as error:  # an OSError too
        raise InputError(
            f"{url} cannot be downloaded: {type(error).__name__}; run again to go on where it stopped"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {one_line(error)}") from error


def _fetch(url: str, part: Path, progress: Progress) -> None:
    """Append to `part` what it lacks; from the beginning where the server knows no ranges."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        if done and answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing lies beyond it: whole, or no part of this file, as its checksum tells
        if answer.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise InputError(
                f"expected the file {url}, got status {answer.status_code}: try again later, "
                "what has been downloaded is kept"
            )
        if answer.status_code == requests.codes.ok:
            done = 0
        length = answer.raw.length_remaining  # None where the server does not tell; short of it is an error
        total = done + length if length else 0
        with part.open("ab" if done else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(part.stem, done, total)


def unpack(archive: Path, folder: Path, *, wanted: Callable[[str], bool], limit: int = LIMIT) -> None:
    """Unpack the files of a ZIP archive that are wanted, if it holds nothing hostile at all.

    Parameters
    ----------
    archive
        The file.
    folder
        Where they go, made if absent; nothing is written outside it or over a file.
    wanted
        Tells by a file's path in the archive, with forward slashes, whether it is.
    limit
        Bytes that all its files together may have.

    Raises
    ------
    InputError
        If it is no ZIP archive or damaged; if an entry has an absolute path or one with ``..``, comes twice,
        is a link or another thing that is neither file nor folder, or is encrypted; or if its files are
        larger than `limit`, or not as large as declared.
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
    # A damaged archive makes zipfile and its codecs raise errors of almost any kind.
    except Exception as error:
        raise InputError(f"{archive} cannot be unpacked: {one_line(error)}; remove it, run again") from error


def _check(entries: Sequence[zipfile.ZipInfo], archive: Path, limit: int) -> None:
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise InputError(f"{archive} holds {name!r}, a path that leads out of its folder: do not use it")
        kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive was made on Windows
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
    # a file longer than declared is cut there by zipfile, and then its checksum is wrong
    with opened.open(entry) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target)
        size = target.tell()
    if size != entry.file_size:
        raise InputError(
            f"{opened.filename} holds {entry.filename!r} of {size} bytes and declares {entry.file_size}: "
            "do not use it"
        )
