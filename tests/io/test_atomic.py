"""Atomic results: complete or absent; an older result stays until then."""

import errno

import numpy as np
import pytest
import tifffile

from qcanet_monai.errors import OutputError
from qcanet_monai.io import (
    output_folder,
    replacing,
    write_csv,
    write_json,
    write_labels,
)
from qcanet_monai.plot.overlay import write_overlay

LABELS = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
ONES = (1.0, 1.0, 1.0)
WRITERS = {
    "a.tif": lambda path: write_labels(path, LABELS, spacing=ONES),
    "a.nii.gz": lambda path: write_labels(path, LABELS, spacing=ONES),
    "a.png": lambda path: write_overlay(path, LABELS, LABELS, spacing=ONES),
    "a.csv": lambda path: write_csv(path, {"a": [1]}),
    "a.json": lambda path: write_json(path, {"a": 1}),
}


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.nii.gz", "a.b.csv", "a"])
def test_the_temporary_name_is_hidden_beside_the_target_and_keeps_the_suffix(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == (tmp_path / name).suffix
        assert temporary.name.endswith(".nii.gz") == name.endswith(".nii.gz")
        temporary.write_text("new")
        assert not (tmp_path / name).exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_of_full_length_can_be_written(tmp_path):
    name = "a" * 251 + ".csv"
    write_csv(tmp_path / name, {"a": [1]})
    assert [path.name for path in tmp_path.iterdir()] == [name]


def stop_half_way(path, error):
    path.write_text("half")
    raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, "old"])
def test_after_any_exception_the_folder_is_as_before(tmp_path, error, before):
    target = tmp_path / "a.txt"
    if before:
        target.write_text(before)
    with pytest.raises(error), replacing(target) as temporary:
        stop_half_way(temporary, error)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == (
        {"a.txt": before} if before else {}
    )


def test_a_full_disk_is_told_in_one_line_and_the_old_file_stays(tmp_path, monkeypatch):
    def full(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    write_labels(tmp_path / "a.tif", LABELS, spacing=ONES)
    old = (tmp_path / "a.tif").read_bytes()
    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(OutputError, match=r"cannot write .*a\.tif: no space left on device"):
        write_labels(tmp_path / "a.tif", LABELS, spacing=ONES)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.tif": old}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_refuses_a_folder_or_a_missing_one(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match="it is a folder; name a file"):
        WRITERS[name](tmp_path / name)
    with pytest.raises(OutputError, match="its folder does not exist"):
        WRITERS[name](tmp_path / "no" / name)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        WRITERS[name](tmp_path / "file" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "file"])


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_leaves_only_its_file(tmp_path, name):
    (tmp_path / name).write_text("old")
    WRITERS[name](tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() != b"old"


def test_a_device_is_not_replaced():
    with pytest.raises(OutputError, match="not a regular file"), replacing("/dev/null"):
        pass


def test_an_output_folder_is_made_with_its_parents(tmp_path):
    assert output_folder(tmp_path / "a/b") == tmp_path / "a/b"
    assert output_folder(str(tmp_path / "a/b")).is_dir()
    assert list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize("below", ["", "b"])
def test_an_output_folder_cannot_be_a_file(tmp_path, below):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="a file has this name; name a folder"):
        output_folder(tmp_path / "a" / below)


@pytest.mark.parametrize("path", ["/proc", "/proc/none/such"])
def test_an_output_folder_must_be_writable(path):
    with pytest.raises(OutputError, match="name another folder"):
        output_folder(path)
