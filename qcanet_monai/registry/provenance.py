"""What a result depends on: the data's content, the code's commit, the libraries' versions."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import qcanet_monai

LIBRARIES = ("torch", "monai", "ray", "optuna", "mlflow")


def fingerprint(files: Sequence[str | Path], root: str | Path) -> str:
    """SHA-256 over the names below `root` and the contents of files, whatever their order."""
    total = hashlib.sha256()
    for path in sorted(Path(file) for file in files):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {digest}\n".encode())
    return total.hexdigest()


def git_commit() -> str:
    """Commit of the checkout that this package runs from, with +dirty; "unknown" outside of one."""
    folder = Path(qcanet_monai.__file__).parent
    command = [
        "git",
        "-C",
        str(folder),
        "describe",
        "--always",
        "--abbrev=40",
        "--dirty=+dirty",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide a training's result."""
    found = {f"version.{name}": version(name) for name in LIBRARIES}
    return {"version.qcanet_monai": qcanet_monai.__version__, **found}
