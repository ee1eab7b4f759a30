"""What a batch has done already: an image's rows beside its files, so that a rerun does only the rest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from qcanet_monai.io import write_json
from qcanet_monai.io.tables import Row

_FOLDER = ".done"


class ResultCache:
    """Rows of the images that were finished in a folder, each in a file of its own.

    Parameters
    ----------
    folder
        Where the results are.
    settings
        Whatever decides on them; what was done with others is not done.
    """

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder = folder / _FOLDER
        self.settings = settings
        self._folders: dict[Path, list[tuple[int, int]]] = {}

    def read(self, stem: str, source: Path, files: list[Path]) -> tuple[list[Row], Row] | None:
        """Rows of the nuclei and of the time point, or None where anything is missing or has changed."""
        try:
            found = json.loads(self._path(stem).read_text(encoding="utf-8"))
            current = found["fingerprint"] == self._fingerprint(source)
            return (
                (found["nuclei"], found["timepoint"]) if current and all(map(Path.is_file, files)) else None
            )
        except (OSError, ValueError, KeyError, TypeError):  # none there, or none of ours
            return None

    def write(self, stem: str, source: Path, nuclei: list[Row], timepoint: Row) -> None:
        """Say that an image is done; call it when its files are there."""
        self.folder.mkdir(exist_ok=True)
        state = {"fingerprint": self._fingerprint(source), "nuclei": nuclei, "timepoint": timepoint}
        write_json(self._path(stem), state)

    def _path(self, stem: str) -> Path:
        return self.folder / f"{stem}.json"

    def _fingerprint(self, source: Path) -> str:
        text = json.dumps([self.settings, str(source.resolve()), self._state(source)], default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _state(self, source: Path) -> list[tuple[int, int]]:
        """Sizes and times of change, of an OME-Zarr image those of its files when first looked at."""
        if not source.is_dir():
            return [(source.stat().st_size, source.stat().st_mtime_ns)]
        if source not in self._folders:  # a long series has very many files
            found = [path.stat() for path in sorted(source.rglob("*")) if path.is_file()]
            self._folders[source] = [(one.st_size, one.st_mtime_ns) for one in found]
        return self._folders[source]
