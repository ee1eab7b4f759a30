"""Cache of the images that a batch has finished, so that a rerun skips them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from qcanet_monai.io import write_json
from qcanet_monai.io.tables import Row

_FOLDER = ".done"


class ResultCache:
    """Rows of a folder's finished images; a change of `settings` invalidates them."""

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder = folder / _FOLDER
        self.settings = settings
        self._folders: dict[Path, list[tuple[int, int]]] = {}

    def read(self, stem: str, source: Path, files: list[Path]) -> tuple[list[Row], Row] | None:
        """Return nucleus rows and time point row; None if anything is missing or changed."""
        try:
            found = json.loads(self._path(stem).read_text(encoding="utf-8"))
            current = found["fingerprint"] == self._fingerprint(source)
            return (
                (found["nuclei"], found["timepoint"]) if current and all(map(Path.is_file, files)) else None
            )
        except (OSError, ValueError, KeyError, TypeError):  # missing or malformed
            return None

    def write(self, stem: str, source: Path, nuclei: list[Row], timepoint: Row) -> None:
        """Mark an image as finished; call this after its files are written."""
        self.folder.mkdir(exist_ok=True)
        state = {
            "source": str(source.resolve()),
            "fingerprint": self._fingerprint(source),
            "nuclei": nuclei,
            "timepoint": timepoint,
        }
        write_json(self._path(stem), state)

    def other_source(self, stem: str, source: Path) -> str | None:
        """Return another image, still there, whose results have this stem, or None."""
        try:
            other = str(json.loads(self._path(stem).read_text(encoding="utf-8"))["source"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return other if other != str(source.resolve()) and Path(other).exists() else None

    def _path(self, stem: str) -> Path:
        return self.folder / f"{stem}.json"

    def _fingerprint(self, source: Path) -> str:
        text = json.dumps([self.settings, str(source.resolve()), self._state(source)], default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _state(self, source: Path) -> list[tuple[int, int]]:
        """Return size and modification time of the image's files; cached for OME-Zarr."""
        if not source.is_dir():
            return [(source.stat().st_size, source.stat().st_mtime_ns)]
        if source not in self._folders:  # a long series has very many files
            found = [path.stat() for path in sorted(source.rglob("*")) if path.is_file()]
            self._folders[source] = [(one.st_size, one.st_mtime_ns) for one in found]
        return self._folders[source]
