"""Cache of the images that a batch has finished, so that a rerun skips them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from qcanet_monai.io import write_json
from qcanet_monai.io.label_digests import digest_of
from qcanet_monai.io.tables import Row

_FOLDER = ".done"


class Finished(NamedTuple):
    """Rows of one image: nuclei, time point; doubts about the image, and its scale."""

    nuclei: list[Row]
    timepoint: Row
    doubts: list[str]
    scale: dict[str, Any]


class ResultCache:
    """Rows of a folder's finished images; a change of `settings` invalidates them."""

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder = folder / _FOLDER
        self.settings = settings
        self._folders: dict[Path, list[tuple[int, int]]] = {}

    def read(self, stem: str, source: Path, files: list[Path]) -> Finished | None:
        """Return an image's rows; None if anything is missing or changed."""
        found = self._state_of(stem)
        try:
            rows = Finished(found["nuclei"], found["timepoint"], found["doubts"], found["scale"])
            current = found["fingerprint"] == self._fingerprint(source)
            current = current and all(map(Path.is_file, files)) and found["labels"] == digest_of(files[0])
        except (KeyError, TypeError):  # missing, unfinished or malformed
            return None
        return rows if current else None

    def begin(self, stem: str, source: Path) -> None:
        """Claim an image's results; call this before its files are written."""
        self.folder.mkdir(exist_ok=True)
        write_json(self._path(stem), {"source": str(source.resolve())})

    def write(self, stem: str, source: Path, labels: Path, rows: Finished, *, edited: bool = False) -> None:
        """Mark an image as finished; call this after its files are written."""
        state = {
            "source": str(source.resolve()),
            "fingerprint": self._fingerprint(source),
            "labels": digest_of(labels),
            "edited": edited,
            **rows._asdict(),
        }
        write_json(self._path(stem), state)

    def other_source(self, stem: str, source: Path) -> str | None:
        """Return another image, still there, whose results have this stem, or None."""
        other = self._state_of(stem).get("source")
        return other if other and other != str(source.resolve()) and Path(other).exists() else None

    def edited(self, stem: str, labels: Path) -> bool:
        """Return True if a person has changed an image's labels, now or earlier."""
        state = self._state_of(stem)
        known = "labels" in state and labels.is_file()
        return known and (bool(state.get("edited")) or state["labels"] != digest_of(labels))

    def unknown(self, stem: str, labels: Path) -> bool:
        """Return True if labels are there that no run has claimed."""
        return labels.is_file() and not self._state_of(stem)

    def _state_of(self, stem: str) -> dict[str, Any]:
        try:
            found = json.loads(self._path(stem).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

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
