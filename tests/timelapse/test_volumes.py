"""Volumes over time: closed forms, references, and files of `qcanet volume`."""

import math
import sys

import numpy as np
import pytest
import tifffile

from qcanet_monai.cli.main import main
from qcanet_monai.errors import InputError
from qcanet_monai.io import read_csv, write_csv, write_json, write_labels, write_volume
from qcanet_monai.report.volume import volume_over_time, write_volume_report
from qcanet_monai.timelapse.volumes import COLUMNS, volumes_over_time, write_volumes

SPACING = (2.0, 0.5, 0.5)
VOXEL = 0.5  # µm³


def labelled(*n_voxels):
    values = np.concatenate([np.full(n, number) for number, n in enumerate(n_voxels, 1)] or [np.zeros(0)])
    labels = np.zeros(4 * 8 * 8, np.uint16)
    labels[: len(values)] = values
    return labels.reshape(4, 8, 8)


def write(folder, suffix="", **images):
    folder.mkdir(exist_ok=True)
    for stem, n_voxels in images.items():
        write_labels(folder / f"{stem}{suffix}.tif", labelled(*n_voxels), spacing=SPACING)
    return folder


def column(rows, name):
    return [row[name] for row in rows]


@pytest.fixture
def segmented(tmp_path):
    """Write the segmentation of two embryos: labels and other files."""
    folder = write(tmp_path / "found", "_labels", a_t10=(40, 2), a_t2=(30,), a_t1=(), b=(7, 7, 7))
    write_volume(folder / "a_t2.tif", labelled(9), spacing=SPACING)  # an image among the labels
    (folder / "a_t2_overlay.png").write_bytes(b"")
    return folder


def test_a_volume_is_that_of_all_labelled_voxels(segmented):
    rows = volumes_over_time(segmented)
    assert column(rows, "image") == ["a_t1", "a_t2", "a_t10", "b"]
    assert column(rows, "series") == ["a", "a", "a", "b"]
    assert column(rows, "frame") == [1, 2, 10, 0]
    assert column(rows, "volume_um3") == [n * VOXEL for n in (0, 30, 42, 21)]
    for name in ("time_h", "reference_um3", "relative_error"):
        assert all(map(math.isnan, column(rows, name)))
    assert all(tuple(row) == COLUMNS for row in rows)


def test_hours_begin_with_each_series_first_frame(segmented):
    assert column(volumes_over_time(segmented, interval_min=20), "time_h") == pytest.approx([0, 1 / 3, 3, 0])
    write_json(segmented / "run.json", {"interval_min": 30})
    assert column(volumes_over_time(segmented), "time_h") == pytest.approx([0, 0.5, 4.5, 0])


def test_a_folder_of_label_images_needs_no_other_names(tmp_path):
    rows = volumes_over_time(write(tmp_path / "labels", a_t1=(4,), a_t2=(6,)))
    assert column(rows, "image") == ["a_t1", "a_t2"]
    assert column(rows, "volume_um3") == [2, 3]


def test_a_ball_has_the_volume_of_a_ball(tmp_path):
    z, y, x = np.ogrid[-12:13, -24:25, -24:25]
    ball = z**2 + (0.5 * y) ** 2 + (0.5 * x) ** 2 <= 10**2
    write_labels(tmp_path / "ball.tif", ball.astype(np.uint16), spacing=(1.0, 0.5, 0.5))
    (row,) = volumes_over_time(tmp_path / "ball.tif")
    assert row["volume_um3"] == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.01)


def test_the_error_is_relative_to_a_reference_and_unknown_where_that_is_0(segmented, tmp_path):
    reference = write(tmp_path / "true", a_t1=(), a_t2=(20,), a_t10=(56,), b=(21,), c=(5,))
    rows = volumes_over_time(segmented, reference)
    assert column(rows, "reference_um3") == [n * VOXEL for n in (0, 20, 56, 21)]
    error = column(rows, "relative_error")
    assert math.isnan(error[0])
    assert error[1:] == pytest.approx([0.5, 0.25, 0])


def test_nothing_found_is_an_error_of_1(tmp_path):
    (row,) = volumes_over_time(write(tmp_path / "found", a=()), write(tmp_path / "true", a=(3,)))
    assert row["relative_error"] == 1


def test_a_table_is_a_reference_too(segmented, tmp_path):
    table = tmp_path / "true.csv"
    write_csv(table, {"image": ["b", "a_t1", "a_t2", "a_t10"], "volume_um3": [21.0, 0.0, math.nan, 10.5]})
    rows = volumes_over_time(segmented, table)
    assert column(rows, "reference_um3")[2:] == [10.5, 21]
    error = column(rows, "relative_error")
    assert all(map(math.isnan, error[:2]))
    assert error[2:] == pytest.approx([1, 0.5])


def test_what_was_written_is_a_reference_itself(segmented, tmp_path):
    write_volumes(volumes_over_time(segmented), tmp_path / "volume.csv")
    rows = volumes_over_time(segmented, tmp_path / "volume.csv")
    assert column(rows, "relative_error")[1:] == [0, 0, 0]


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_a_reference_without_an_image_is_refused_by_the_images_name(segmented, tmp_path, kind):
    if kind == "folder":
        reference = write(tmp_path / "true", a_t1=(1,), b=(2,))
    else:
        reference = tmp_path / "true.csv"
        write_csv(reference, {"image": ["a_t1", "b"], "volume_um3": [1.0, 2.0]})
    with pytest.raises(InputError, match="2 are missing, the first is a_t10") as refusal:
        volumes_over_time(segmented, reference)
    assert str(reference) in str(refusal.value)


def test_what_is_no_reference_is_refused(segmented, tmp_path):
    with pytest.raises(InputError, match="none does not exist"):
        volumes_over_time(segmented, tmp_path / "none")
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        volumes_over_time(segmented, tmp_path / "none.csv")
    (tmp_path / "table.csv").write_text("image,volume\na,1\n")
    with pytest.raises(InputError, match=r"columns image and volume_um3 in .*table\.csv, got image, volume"):
        volumes_over_time(segmented, tmp_path / "table.csv")


def test_a_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(InputError, match="none does not exist"):
        volumes_over_time(tmp_path / "none")
    with pytest.raises(InputError, match="expected images in"):
        volumes_over_time(tmp_path)


def test_labels_that_state_no_voxel_size_need_one(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", labelled(8), photometric="minisblack")
    with pytest.raises(InputError, match="--spacing Z Y X"):
        volumes_over_time(tmp_path)
    assert column(volumes_over_time(tmp_path, spacing=(1, 2, 3)), "volume_um3") == [48]


def test_every_time_point_of_a_file_is_a_row(tmp_path):
    movie = np.stack([labelled(n) for n in (2, 4, 8)])
    tifffile.imwrite(
        tmp_path / "e.tif",
        movie,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "TZYX", "spacing": 2.0, "unit": "um", "finterval": 1800, "tunit": "sec"},
    )
    rows = volumes_over_time(tmp_path / "e.tif")
    assert column(rows, "image") == ["e_t000", "e_t001", "e_t002"]
    assert column(rows, "volume_um3") == [1, 2, 4]
    assert column(rows, "time_h") == pytest.approx([0, 0.5, 1])
    assert column(volumes_over_time(tmp_path / "e.tif", interval_min=60), "time_h") == [0, 1, 2]


def lines(axes):
    return [[*map(float, line.get_ydata())] for line in axes.get_lines()]


def test_the_figure_shows_the_volumes_and_the_error_if_there_is_one(segmented, tmp_path):
    (alone,) = volume_over_time(volumes_over_time(segmented)).axes
    assert lines(alone) == [[0, 15, 21], [10.5]]
    assert alone.get_xlabel() == "frame"
    reference = write(tmp_path / "true", a_t1=(2,), a_t2=(20,), a_t10=(56,), b=(21,))
    rows = volumes_over_time(segmented, reference, interval_min=60)
    above, below = volume_over_time(rows).axes
    assert lines(above) == [[0, 15, 21], [1, 10, 28], [10.5], [10.5]]
    assert lines(below) == [[100, 50, 25], [0]]
    assert below.get_xlabel() == "hours"
    assert [*above.get_lines()[0].get_xdata()] == [0, 1, 9]


def test_the_report_is_a_table_and_a_figure(segmented, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    assert write_volume_report(volumes_over_time(segmented), out) == out / "volume.csv"
    assert sorted(path.name for path in out.iterdir()) == ["volume.csv", "volume.png", "volume.svg"]
    table = read_csv(out / "volume.csv")
    assert tuple(table) == COLUMNS
    assert table["image"].tolist() == ["a_t1", "a_t2", "a_t10", "b"]
    assert table["volume_um3"].tolist() == [0, 15, 21, 10.5]
    assert np.isnan(table["relative_error"]).all()
    assert (out / "volume.png").stat().st_size > 1000


def qcanet(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["qcanet", "volume", *map(str, words)])
    try:
        main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr()
    return status, said.out.replace("\n", " "), said.err


def test_the_command_writes_beside_the_labels_or_where_it_is_told_to(
    segmented, tmp_path, monkeypatch, capsys
):
    assert qcanet(monkeypatch, capsys, segmented)[0] == 0
    assert (segmented / "volume.csv").is_file()
    assert column(volumes_over_time(segmented), "image") == ["a_t1", "a_t2", "a_t10", "b"]
    reference = write(tmp_path / "true", a_t1=(), a_t2=(20,), a_t10=(56,), b=(21,))
    words = (segmented, "--reference", reference, "--out", tmp_path / "out", "--interval-min", 30)
    status, said, _ = qcanet(monkeypatch, capsys, *words)
    assert status == 0
    assert "mean relative error 25.0% over 3 images" in said
    table = read_csv(tmp_path / "out" / "volume.csv")
    assert table["time_h"].tolist() == [0, 0.5, 4.5, 0]


def test_a_mistake_is_one_line_and_writes_nothing(segmented, tmp_path, monkeypatch, capsys):
    words = (segmented, "--reference", tmp_path / "none", "--out", tmp_path / "out")
    status, _, said = qcanet(monkeypatch, capsys, *words)
    assert status == 2
    assert said.startswith("qcanet: ")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()
