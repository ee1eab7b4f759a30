"""Scores from files: pairs, folders, known and unknown spacing."""

import json
import sys

import numpy as np
import pytest

from qcanet_monai.cli.main import main
from qcanet_monai.errors import InputError
from qcanet_monai.evaluation.evaluate import evaluate_labels
from qcanet_monai.io import write_labels


@pytest.fixture
def folders(tmp_path):
    """Two references of two boxes: one predicted perfectly, the other without a box."""
    labels = np.zeros((6, 12, 12), np.uint16)
    labels[1:5, 1:5, 1:5], labels[1:5, 7:11, 7:11] = 1, 2
    half = np.where(labels == 1, labels, 0)
    for folder, name, array in (
        *(("ref", "a", labels), ("ref", "b", labels)),
        *(("pred", "a_labels", labels), ("pred", "b_labels", half)),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_labels(tmp_path / folder / f"{name}.tif", array, spacing=(2.0, 1.0, 1.0))
    return tmp_path / "pred", tmp_path / "ref"


def test_folders_are_paired_by_name_and_averaged(folders):
    results = evaluate_labels(*folders)
    assert results["a"]["seg"] == 1
    assert results["b"]["seg"] == 0.5
    assert results["mean"]["seg"] == 0.75
    assert results["mean"]["seg_pooled"] == 0.75
    assert results["b"]["iou"] == 0.5
    assert results["b"]["hausdorff_um"] > 0


def test_a_missing_prediction_is_told(folders):
    (folders[0] / "b_labels.tif").unlink()
    with pytest.raises(InputError, match="the first is b"):
        evaluate_labels(*folders)


def test_a_file_is_not_compared_with_a_folder(folders):
    with pytest.raises(InputError, match="two files or two folders"):
        evaluate_labels(folders[0] / "a_labels.tif", folders[1])


def test_the_command_prints_and_writes_the_scores(folders, tmp_path, monkeypatch, capsys):
    words = ["evaluate", folders[0], folders[1], "--out", tmp_path / "scores.json"]
    monkeypatch.setattr(sys, "argv", ["qcanet", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "seg_pooled" in capsys.readouterr().out
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["mean"]["seg"] == 0.75
