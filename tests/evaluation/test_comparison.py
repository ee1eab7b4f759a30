"""Comparison of methods: exact means, and the command on simulated and real data."""

import csv
import json
import math

import numpy as np
import pytest
from helpers import SHARED

from qcanet_monai.core.instances.markers import markers_from_mask
from qcanet_monai.core.instances.watershed import instances_from_masks
from qcanet_monai.errors import InputError
from qcanet_monai.evaluation.comparison import compare_methods, differences, summarise
from qcanet_monai.io import read_csv, read_labels, write_labels
from qcanet_monai.report.comparison import write_report_of

DATA = SHARED / "data"
SPACING = (2.0, 1.0, 1.0)


def blocks(count, width=4):
    """Blocks side by side, each of 16 voxels per slice."""
    labels = np.zeros((4, 6, 6 * 12), np.uint16)
    for number in range(count):
        labels[1:3, 1:5, 6 * number : 6 * number + width] = number + 1
    return labels


@pytest.fixture
def folders(tmp_path):
    """Reference of two embryos, a correct method, and one that outlines half nuclei."""
    for embryo, counts in (("a", (1, 9)), ("b", (2, 12))):
        for frame, count in enumerate(counts):
            name = f"{embryo}_t{frame}.tif"
            for folder, width in (("true", 4), ("right", 4), ("half", 2)):
                (tmp_path / folder).mkdir(exist_ok=True)
                write_labels(tmp_path / folder / name, blocks(count, width), spacing=SPACING)
    return tmp_path


def test_scores_know_their_embryo_frame_and_stage(folders):
    rows = compare_methods({"right": folders / "right", "half": folders / "half"}, folders / "true")
    assert [(row["method"], row["embryo"], row["frame"], row["stage"]) for row in rows] == [
        (method, *place)
        for method in ("right", "half")
        for place in (("a", 0, "1"), ("a", 1, "9-15"), ("b", 0, "2"), ("b", 1, "9-15"))
    ]
    assert {row["iou"] for row in rows if row["method"] == "right"} == {1}
    # exactly half of a nucleus does not match
    assert {(row["iou"], row["seg"]) for row in rows if row["method"] == "half"} == {(0.5, 0)}


def test_means_are_per_stage_and_over_8_nuclei(folders):
    rows = compare_methods({"half": folders / "half"}, folders / "true")
    found = {(row["stage"], row["metric"]): row for row in summarise(rows, ["iou", "n_ref"])}
    assert [found[stage, "iou"]["n"] for stage in ("all", "over 8", "1", "2", "9-15")] == [4, 2, 1, 1, 2]
    assert ("32+", "iou") not in found
    assert found["all", "n_ref"]["mean"] == 6
    assert found["over 8", "n_ref"]["sd"] == pytest.approx(1.5 * math.sqrt(2))
    assert (found["over 8", "n_ref"]["low"], found["over 8", "n_ref"]["high"]) == (9, 12)


def test_the_first_is_held_against_the_others_volume_by_volume(folders):
    methods = {name: folders / name for name in ("right", "half", "true")}
    found = {(row["rival"], row["stage"], row["metric"]): row for row in differences(
        compare_methods(methods, folders / "true")
    )}  # fmt: skip
    half, same = found["half", "all", "seg"], found["true", "over 8", "seg"]
    assert (half["mean"], half["low"], half["high"]) == (1, 1, 1)
    assert (half["share_better"], half["share_worse"]) == (1, 0)
    assert (same["n"], same["mean"], same["share_better"], same["share_worse"]) == (2, 0, 0, 0)


def test_tables_and_plots_are_written(folders):
    rows = compare_methods({"right": folders / "right", "half": folders / "half"}, folders / "true")
    table = write_report_of(rows, folders / "out").read_text(encoding="utf-8")
    assert "| half | 4 | 0.500 (0.000), 0.500 to 0.500 | 0.000 (0.000), 0.000 to 0.000 |" in table
    assert "| right - half | over 8 | SEG | +1.000, 1.000 to 1.000 | 100% | 0% |" in table
    names = {path.name for path in (folders / "out").iterdir()}
    assert names == {"scores.csv", "scores.json", "summary.csv", "differences.csv", "table.md"} | {
        f"over_time.{suffix}" for suffix in ("svg", "png")
    }
    assert len(json.loads((folders / "out/scores.json").read_text())) == 8
    with (folders / "out/scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8


def test_a_method_that_lacks_an_image_is_refused(folders):
    (folders / "half/b_t1.tif").unlink()
    with pytest.raises(InputError, match="1 are missing, the first is b_t1"):
        compare_methods({"half": folders / "half"}, folders / "true")


def test_evaluate_compares_folders_by_command_line(folders, qcanet):
    out = folders / "out"
    done = qcanet(
        "evaluate", folders / "right", folders / "true", "--also", f"half={folders / 'half'}", "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert "| right | 4 | 1.000 (0.000), 1.000 to 1.000 |" in done.stdout
    assert (out / "over_time.png").read_bytes().startswith(b"\x89PNG")
    for also, text in (
        ("half", "expected NAME=PATH, got 'half'"),
        (f"a={folders}/none", "none does not exist"),
    ):
        refused = qcanet(
            "evaluate", folders / "right", folders / "true", "--also", also, "--out", folders / "new"
        )
        assert refused.returncode == 2
        assert text in refused.stderr.splitlines()[0]
        assert not (folders / "new").exists()


def test_qcanet_and_its_rivals_run_on_a_dataset_by_one_command(dataset, tmp_path, qcanet):
    images = dataset / "Images/train/Images"
    reference = dataset / "GroundTruth/train/GroundTruth_QCANet"
    command = ["compare", images, "--reference", reference, "--out", tmp_path / "out", "--unet", "bundled"]
    command += ["--also", f"truth={reference}"]
    done = qcanet(*command)
    assert done.returncode == 0, done.stderr
    scores = read_csv(tmp_path / "out/scores.csv")
    methods = list(dict.fromkeys(scores["method"].tolist()))
    assert methods == ["QCANet", "QCANet without NDN", "3D U-Net", "Otsu and watershed", "truth"]
    assert len(scores["method"]) == 5 * 6
    assert set(scores["seg"][scores["method"] == "truth"]) == {1}
    without, unet = (scores["seg"][scores["method"] == name] for name in methods[1:3])
    assert np.array_equal(without, unet)  # both use the same network
    before = (tmp_path / "out/qcanet/Emb01_t001_labels.tif").stat().st_mtime_ns
    assert qcanet(*command).returncode == 0
    assert (tmp_path / "out/qcanet/Emb01_t001_labels.tif").stat().st_mtime_ns == before

    gone = qcanet("compare", images / "Emb01_t001.tif", "--reference", reference, "--out", tmp_path / "gone")
    assert gone.returncode == 2
    assert "expected an image for every reference" in gone.stderr
    assert not (tmp_path / "gone").exists()


def test_on_the_real_embryo_ours_and_the_authors_stand_side_by_side(tmp_path, qcanet):
    folder = DATA / "qcanet_16cell"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    spacing = (1.75, 0.8, 0.8)
    mask, centres = (
        read_labels(folder / f"{name}.tif", spacing=spacing).array > 0 for name in ("nsn", "ndn")
    )
    true = instances_from_masks(mask, markers_from_mask(centres, min_size=1), spacing=spacing).labels
    write_labels(tmp_path / "true.tif", true, spacing=spacing)
    done = qcanet(
        "compare", folder / "raw.tif", "--reference", tmp_path / "true.tif", "--spacing", 1.75, 0.8, 0.8,
        "--also", f"authors={folder / 'authors_output.tif'}", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = read_csv(tmp_path / "out/scores.csv")
    seg = dict(zip(scores["method"].tolist(), scores["seg"].tolist(), strict=True))
    assert seg["authors"] == pytest.approx(0.736, abs=5e-4)  # as published
    assert seg["QCANet"] > seg["authors"] > seg["Otsu and watershed"]
