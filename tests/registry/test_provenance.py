"""Provenance of a result: contents, commit, versions."""

import hashlib
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import qcanet_monai
from qcanet_monai.registry.provenance import LIBRARIES, fingerprint, git_commit, versions

PACKAGE = Path(qcanet_monai.__file__).parent


@pytest.fixture
def files(tmp_path) -> list[Path]:
    for name, content in {"a.tif": b"one", "b.tif": b"two", "sub/a.tif": b"three"}.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return sorted((tmp_path / "data").rglob("*.tif"))


def test_a_fingerprint_is_a_hash_over_names_and_hashes(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"hello")
    line = f"a.txt {hashlib.sha256(b'hello').hexdigest()}\n"
    assert fingerprint([tmp_path / "a.txt"], tmp_path) == hashlib.sha256(line.encode()).hexdigest()


def test_a_fingerprint_depends_on_every_byte(files, tmp_path):
    root = tmp_path / "data"
    before = fingerprint(files, root)
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content + b"!")
        assert fingerprint(files, root) != before
        file.write_bytes(content)
    assert fingerprint(files, root) == before


def test_a_fingerprint_depends_on_the_names_and_on_which_files_there_are(files, tmp_path):
    root = tmp_path / "data"
    before = fingerprint(files, root)
    assert fingerprint(files[:-1], root) != before
    renamed = files[0].rename(files[0].with_name("c.tif"))
    assert fingerprint([renamed, *files[1:]], root) != before


def test_contents_that_change_places_change_the_fingerprint(files, tmp_path):
    before = fingerprint(files, tmp_path / "data")
    one, two = files[0].read_bytes(), files[1].read_bytes()
    files[0].write_bytes(two)
    files[1].write_bytes(one)
    assert fingerprint(files, tmp_path / "data") != before


def test_a_fingerprint_depends_neither_on_the_order_nor_on_the_folder_nor_on_dates(files, tmp_path):
    before = fingerprint(files, tmp_path / "data")
    assert fingerprint(files[::-1], tmp_path / "data") == before
    assert fingerprint([str(file) for file in files], str(tmp_path / "data")) == before
    moved = shutil.copytree(tmp_path / "data", tmp_path / "elsewhere/data", copy_function=shutil.copyfile)
    assert fingerprint(list(moved.rglob("*.tif")), moved) == before


def test_a_checkouts_commit_is_whole_and_says_whether_it_was_changed():
    top = subprocess.run(["git", "-C", str(PACKAGE), "rev-parse", "HEAD"], capture_output=True, text=True)
    if top.returncode:
        assert git_commit() == "unknown"
    else:
        assert re.fullmatch(r"[0-9a-f]{40}(\+dirty)?", git_commit())
        assert git_commit().startswith(top.stdout.strip())


def test_the_commit_is_that_of_the_package_wherever_one_works(tmp_path, monkeypatch):
    before = git_commit()
    monkeypatch.chdir(tmp_path)
    assert git_commit() == before


@pytest.fixture
def copied(tmp_path):
    """Return the commit that a copy of the package states in a new interpreter."""

    def commit_of(folder: Path, **environment: str) -> str:
        code = "from qcanet_monai.registry.provenance import git_commit; print(git_commit())"
        path = {"PYTHONPATH": str(folder), "HOME": str(tmp_path), **environment}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=path, cwd=tmp_path)
        return done.stdout.strip()

    for name in ("__init__.py", "registry/__init__.py", "registry/provenance.py"):
        target = tmp_path / "copy/qcanet_monai" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / name, target)
    return tmp_path / "copy", commit_of


def git(folder, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_outside_of_a_checkout_or_without_git_the_commit_is_unknown(copied, tmp_path):
    folder, commit_of = copied
    path = "/usr/local/bin:/usr/bin:/bin"
    assert commit_of(folder, PATH=path, GIT_CEILING_DIRECTORIES=str(tmp_path)) == "unknown"
    assert commit_of(folder, PATH=str(tmp_path / "none")) == "unknown"


def test_a_changed_checkout_is_dirty_and_a_tag_does_not_hide_the_commit(copied):
    folder, commit_of = copied
    (folder / ".gitignore").write_text("__pycache__\n")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "all")
    git(folder, "tag", "-a", "v1", "-m", "one")
    head = git(folder, "rev-parse", "HEAD")
    path = "/usr/local/bin:/usr/bin:/bin"
    assert commit_of(folder, PATH=path) == head
    (folder / ".gitignore").write_text("__pycache__\n*.tmp\n")
    assert commit_of(folder, PATH=path) == f"{head}+dirty"


def test_versions_are_those_of_the_package_and_of_what_decides_a_training():
    assert versions() == {
        "version.qcanet_monai": qcanet_monai.__version__,
        **{f"version.{name}": version(name) for name in LIBRARIES},
    }
    assert set(LIBRARIES) >= {"torch", "monai", "ray", "optuna", "mlflow"}
