"""Provenance of a result: data content, code commit and library versions."""

from __future__ import annotations

import getpass
import hashlib
import subprocess
from collections.abc import Sequence
from importlib.metadata import distributions, version
from pathlib import Path

import qcanet_monai

LIBRARIES = ("torch", "monai", "ray", "optuna", "mlflow")


def fingerprint(files: Sequence[str | Path], root: str | Path) -> str:
    """Return a SHA-256 of files: sorted names relative to `root`, and contents."""
    total = hashlib.sha256()
    for path in sorted(Path(file) for file in files):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {digest}\n".encode())
    return total.hexdigest()


def git_commit() -> str:
    """Return the checkout's commit ("+dirty" if modified), or "unknown"."""
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


def origin(source: str) -> dict[str, str]:
    """Return MLflow's own tags for the origin of a run.

    Parameters
    ----------
    source
        What made the run, such as ``qcanet tune nsn``.
    """
    commit = git_commit().removesuffix("+dirty")
    found = {"mlflow.source.name": source, "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
    return found if commit == "unknown" else {**found, "mlflow.source.git.commit": commit}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def environment() -> str:
    """Return all installed packages as lines of a requirements file."""
    found = {f"{one.name}=={one.version}" for one in distributions() if one.name}
    return "".join(f"{line}\n" for line in sorted(found, key=str.lower))


def versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries used in training."""
    found = {f"version.{name}": version(name) for name in LIBRARIES}
    return {"version.qcanet_monai": qcanet_monai.__version__, **found}
