"""Damaged and hostile files are read or refused; the fuzzer notices others."""

import os
import time
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzz import Kind, attempt, run
from qcanet_monai.errors import InputError


def refuse(_folder):
    raise InputError("expected this, got that: do so")


@pytest.mark.parametrize(
    ("read", "finding"),
    [
        (lambda folder: folder, ""),
        (refuse, ""),
        (lambda folder: folder.missing, "AttributeError"),
        (lambda folder: (folder.parent / "escaped").touch(), "files outside"),
        (lambda _folder: Path(fuzz._CANARY).mkdir(), "files outside"),
        (lambda _folder: time.sleep(3), "TimeoutError"),
    ],
)
def test_the_fuzzer_has_teeth(tmp_path, monkeypatch, read, finding):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    before = fuzz.signal.signal(fuzz.signal.SIGALRM, fuzz._stop)
    try:
        kind, found = attempt(0, 0, {"made up": Kind({"a": b"text"}, read)}, tmp_path)
    finally:
        fuzz.signal.signal(fuzz.signal.SIGALRM, before)
    assert kind == "made up"
    assert (finding in found) if finding else found == ""


def test_a_process_that_dies_is_a_finding(monkeypatch):
    monkeypatch.setattr(fuzz, "kinds", lambda: {"deadly": Kind({"a": b"text"}, lambda _folder: os._exit(9))})
    assert [finding for *_, finding in run(2)] == ["the process ended with 9"] * 2


@pytest.mark.slow
def test_two_thousand_inputs_give_no_finding():
    found = list(run(2000))
    assert len(found) == 2000
    assert [one for one in found if one[2]] == []
