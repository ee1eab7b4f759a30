"""Ledger of a study: every event of its trials as a line of JSON.

The ledger is what a resumed study trusts. Ray's own state and Optuna's database can be lost or incomplete
after a crash or on a full disk; lines that were written stay readable.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcanet_monai.errors import StudyError
from qcanet_monai.tuning.progress import TrialState

Event = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """Trial of another study: settings, and the last result."""

    settings: Mapping[str, Any]
    result: Mapping[str, Any]


class Entry:
    """One trial: settings, results per epoch, last checkpoint and end.

    Attributes
    ----------
    checkpoint
        Folder of the last complete checkpoint, relative to the study's folder; None without one.
    retry
        True if the trial ended with an error that is not its own fault, such as missing data.
    alone
        True if the trial ran out of memory beside others, and has a whole GPU now.
    begun, over
        Times of the first and the last event, in seconds since 1970.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.name, self.settings = name, dict(settings)
        self.results: list[Event] = []
        self.checkpoint: str | None = None
        self.status = "waiting"
        self.failure = ""
        self.retry = False
        self.alone = False
        self.begun = self.over = 0.0

    def state(self, objective: str, epochs: int) -> TrialState:
        """Return the trial's state for a budget of `epochs`."""
        last = self.results[-1] if self.results else {}
        epoch = int(last.get("epoch", 0))
        status = self.status
        if status == "over":
            status = "failed" if self.failure or not last else "finished" if epoch >= epochs else "stopped"
        return TrialState(
            id=self.name,
            settings=self.settings,
            status=status,
            epoch=epoch,
            value=last.get(objective),
            parameters=last.get("parameters"),
            multiply_adds=last.get("multiply_adds"),
            seconds=sum(float(result.get("epoch_seconds", 0.0)) for result in self.results),
            failure=self.failure,
        )


class Ledger:
    """Append-only record of a study's trials.

    Parameters
    ----------
    path
        File of the ledger, created on the first event.

    Attributes
    ----------
    entries : dict of str to Entry
        Trials by name, in the order of their start.
    seconds : float
        Time during which the study ran, over all its sessions.
    known : list of dict
        Trials of other studies, each with ``settings`` and ``values``, from a warm start.
    lost : int
        Lines that could not be read, such as one cut off by a crash.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.seconds = 0.0
        self.known: list[Event] = []
        self.lost = 0
        self._last: float | None = None
        content = path.read_bytes() if path.is_file() else b""
        self._torn = bool(content) and not content.endswith(b"\n")
        for line in content.splitlines():
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError):
                self.lost += 1
        self._last = None  # no session runs yet

    @property
    def elapsed(self) -> float:
        """Seconds that the study has run, the time since the last event included."""
        return self.seconds + (0.0 if self._last is None else max(0.0, time.time() - self._last))

    def start(self) -> None:
        """Begin a session: only the time from here on counts as running."""
        self._write({"event": "session"})

    def learn(self, settings: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Record a trial of another study."""
        self._write({"event": "known", "settings": dict(settings), "values": dict(values)})

    @property
    def next_name(self) -> str:
        """Name of the next trial."""
        return f"{len(self.entries) + 1:03d}"

    def add(self, settings: Mapping[str, Any]) -> Entry:
        """Begin a trial with some settings; return it."""
        name = self.next_name
        self._write({"event": "trial", "trial": name, "settings": dict(settings)})
        return self.entries[name]

    def result(self, name: str, values: Mapping[str, Any]) -> None:
        """Record what a trial reported after an epoch."""
        plain = {key: value for key, value in values.items() if isinstance(value, (bool, int, float, str))}
        self._write({"event": "result", "trial": name, "values": plain})

    def checkpoint(self, name: str, folder: str | None) -> None:
        """Record a trial's last complete checkpoint, or None once it is deleted."""
        self._write({"event": "checkpoint", "trial": name, "folder": folder})

    def end(self, name: str, failure: str = "", *, retry: bool = False) -> None:
        """Record the end of a trial; `retry` if a resumed study shall run it again."""
        self._write({"event": "end", "trial": name, "failure": failure, "retry": retry})

    def again(self, name: str, *, alone: bool = False) -> None:
        """Record that an ended trial runs again; `alone` if on a whole GPU."""
        self._write({"event": "again", "trial": name, "alone": alone})

    def _write(self, event: Event) -> None:
        """Append an event whole or not at all, then apply it."""
        event = {**event, "time": round(time.time(), 3)}
        line = b"\n" * self._torn + json.dumps(event, ensure_ascii=False).encode() + b"\n"
        try:
            # without a buffer, whose rest would be written on closing, behind what was cut off
            with self.path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    while line:
                        line = line[file.write(line) :]
                except OSError:
                    os.ftruncate(file.fileno(), size)
                    raise
        except OSError as error:
            raise StudyError(
                f"cannot write {self.path}: {(error.strerror or str(error)).lower()}; make room, then "
                "continue with --resume"
            ) from error
        self._torn = False
        self._apply(event)

    def _apply(self, event: Event) -> None:
        kind, now = event["event"], float(event["time"])
        if kind == "session":
            self._last = now
        elif self._last is not None and kind not in ("again", "known"):  # these come before a session
            self.seconds += max(0.0, now - self._last)
            self._last = now
        if kind == "trial":
            entry = Entry(event["trial"], event["settings"])
            entry.begun = entry.over = now
            self.entries[entry.name] = entry
        elif kind == "known":
            self.known.append(event)
        elif kind != "session":
            entry = self.entries[event["trial"]]
            entry.over = now
            if kind == "result":
                entry.status, values = "running", event["values"]
                if not values.get("failure"):  # a resumed trial may repeat an epoch
                    entry.results = [r for r in entry.results if r.get("epoch", 0) < values.get("epoch", 0)]
                entry.results.append(values)
            elif kind == "checkpoint":
                entry.checkpoint = event["folder"]
            elif kind == "end":
                entry.status, entry.failure, entry.retry = "over", event["failure"], bool(event["retry"])
            elif kind == "again":
                entry.status, entry.failure, entry.retry = "waiting", "", False
                entry.alone = entry.alone or bool(event.get("alone"))
                entry.results = [r for r in entry.results if not r.get("failure")]
