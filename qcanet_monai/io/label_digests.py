"""Digests of the label images that a folder's tables describe."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from qcanet_monai.io.tables import write_json

_FILE = ".measured.json"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_labels(folder: Path, labels: Iterable[Path]) -> None:
    """Record the label images, in the folder or beside it, that its tables describe."""
    known = {name: digest for name, digest in _recorded(folder).items() if (folder / name).is_file()}
    known |= {os.path.relpath(path, folder): digest_of(path) for path in labels}
    write_json(folder / _FILE, dict(sorted(known.items())))


def recorded_labels(folder: Path) -> list[Path]:
    """List the recorded label images."""
    return [Path(os.path.normpath(folder / name)) for name in _recorded(folder)]


def edited_labels(folder: Path) -> list[Path]:
    """List the recorded label images that have changed since."""
    return [
        Path(os.path.normpath(folder / name))
        for name, digest in _recorded(folder).items()
        if (folder / name).is_file() and digest_of(folder / name) != digest
    ]


def _recorded(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}
