"""Atomic writes: write to a temporary file, rename it when complete."""

import contextlib
import secrets
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from qcanet_monai.errors import OutputError


@contextlib.contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the body succeeds.

    The temporary file is hidden, keeps the suffix (writers choose the format by it) and is in the same
    folder, because a rename across file systems is not atomic. If the body raises or is interrupted, the
    temporary file is removed and an existing `path` stays unchanged.

    Parameters
    ----------
    path : path-like
        File to create or replace; its folder must exist.

    Raises
    ------
    OutputError
        If the folder is missing, `path` is not a regular file, or the system refuses to write.
        An `OSError` raised in the body is reported as a failed write: read other files outside the body.
    """
    target = Path(path)
    _check_target(target)
    temporary = target.with_name(f".qcanet-{secrets.token_hex(8)}{_suffixes(target)}")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def output_folder(path: str | PathLike[str]) -> Path:
    """Create a folder and its parents, check that it is writable, and return it.

    Raises
    ------
    OutputError
        If `path` is a file or the system refuses to write.
    """
    folder = Path(path)
    # Permission bits mislead (root, read-only mounts): only a test file is proof.
    probe = folder / f".qcanet-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"cannot write into {folder}: a file has this name; name a folder") from error
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {_reason(error)}; name another folder") from error
    return folder


def _check_target(target: Path) -> None:
    try:
        if target.is_dir():
            raise OutputError(f"cannot write {target}: it is a folder; name a file")
        # A rename would replace a device such as /dev/null with a regular file.
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {target}: it is not a regular file; name another")
        if not target.parent.is_dir():
            raise OutputError(f"cannot write {target}: its folder does not exist; create it first")
    except OSError as error:
        raise OutputError(f"cannot write {target}: {_reason(error)}") from error


def _suffixes(target: Path) -> str:
    return ".nii.gz" if target.name.lower().endswith(".nii.gz") else target.suffix


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
