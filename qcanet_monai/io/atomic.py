"""Results appear whole or not at all: write under a hidden name, rename when done."""

import contextlib
import secrets
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from qcanet_monai.errors import OutputError

__all__ = ["output_folder", "replacing"]


@contextlib.contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Lend a temporary name beside `path`; what is written there becomes `path` at the end.

    The temporary name is hidden, lies in the same folder (a rename across file systems is not atomic) and
    keeps the suffix, because writers choose the format by it. When the body raises, an interrupt included,
    the temporary file is removed and an older `path` stays as it was.

    Parameters
    ----------
    path : path-like
        The file to be made or replaced; its folder must exist.

    Yields
    ------
    Path
        The name to write to.

    Raises
    ------
    OutputError
        If the folder is missing, `path` is something other than a file, or the system refuses to write.
        An `OSError` in the body counts as the latter, so keep reads of other files outside.
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
    """Make a folder for results where there is none, and prove that it can be written to.

    Parameters
    ----------
    path : path-like
        The folder; missing parents are made too.

    Returns
    -------
    Path
        The same folder.

    Raises
    ------
    OutputError
        If a file stands in its place or the system refuses.
    """
    folder = Path(path)
    # Permission bits do not tell (root, read-only mounts): only a file that was made does.
    probe = folder / f".qcanet-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"cannot write into {folder}: a file stands there; name a folder") from error
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {_reason(error)}; name another folder") from error
    return folder


def _check_target(target: Path) -> None:
    try:
        if target.is_dir():
            raise OutputError(f"cannot write {target}: it is a folder; name a file")
        # A rename would replace a device such as /dev/null by a plain file.
        if target.exists() and not target.is_file():
            raise OutputError(f"cannot write {target}: it is not a regular file")
        if not target.parent.is_dir():
            raise OutputError(f"cannot write {target}: its folder does not exist; make it first")
    except OSError as error:
        raise OutputError(f"cannot write {target}: {_reason(error)}") from error


def _suffixes(target: Path) -> str:
    return ".nii.gz" if target.name.lower().endswith(".nii.gz") else target.suffix


def _reason(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
