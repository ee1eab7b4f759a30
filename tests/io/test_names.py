"""File names: order, stems, images of a folder."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from qcanet_monai.errors import InputError
from qcanet_monai.io.names import (
    Frame,
    Series,
    frames_of,
    group_series,
    image_items,
    image_stem,
    list_images,
    natural_key,
    stem_of,
    without_results,
)


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "ordered",
    [
        ["t1", "t2", "t10", "t11"],
        ["Emb1_t2", "Emb1_t10", "emb2_t1", "Emb10_t1"],
        ["a", "a1", "a1b", "a2", "B"],
        ["1", "2", "10", "a"],
        ["007a", "8", "09"],
    ],
)
def test_numbers_in_names_sort_by_value_and_letters_without_case(ordered):
    backwards = ordered[::-1]
    assert sorted(backwards, key=natural_key) == ordered


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.tif", "a"),
        ("a.tiff", "a"),
        ("a.TIF", "a"),
        ("a.ome.tif", "a"),
        ("a.OME.tiff", "a"),
        ("a.nii", "a"),
        ("a.nii.gz", "a"),
        ("folder.tif/a.b_labels.nii.gz", "a.b_labels"),
        ("ome.tif", "ome"),
        ("a.csv", "a.csv"),
    ],
)
def test_a_stem_is_the_name_without_its_image_suffix(name, stem):
    assert stem_of(name) == stem
    assert stem_of(Path(name)) == stem


def test_a_folder_gives_its_images_in_natural_order(tmp_path):
    touch(tmp_path, "t10.tif", "t2.TIFF", "t1.ome.tif", "t3.nii.gz", "t4.nii", "notes.txt", "._t1.tif")
    touch(tmp_path / "t0.tif")  # a folder, despite the name
    found = [path.name for path in list_images([tmp_path])]
    assert found == ["t1.ome.tif", "t2.TIFF", "t3.nii.gz", "t4.nii", "t10.tif"]


def test_files_and_folders_keep_the_order_in_which_they_are_given(tmp_path):
    first, second = touch(tmp_path / "b", "b2.tif", "b10.tif"), touch(tmp_path / "a", "a.tif")
    (tmp_path / "c.tif").touch()
    given = [str(second / "a.tif"), first, tmp_path / "c.tif"]
    wanted = [second / "a.tif", first / "b2.tif", first / "b10.tif", tmp_path / "c.tif"]
    assert list_images(given) == wanted
    assert image_items(given) == [{"image": str(path)} for path in wanted]


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.tif does not exist"):
        list_images([touch(tmp_path / "a", "a.tif"), tmp_path / "absent.tif"])


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="found none"):
        list_images([touch(tmp_path / "empty", "notes.txt", ".hidden.tif")])


def test_two_images_whose_results_would_collide_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"would both write a_labels\.tif"):
        list_images([touch(tmp_path / "one", "a.tif", "a.nii.gz")])
    with pytest.raises(InputError, match=r"would both write b_labels\.tif"):
        list_images([touch(tmp_path / "two", "b.ome.tif"), touch(tmp_path / "three", "b.tif")])


def test_stems_are_grouped_by_what_comes_before_their_last_number():
    stems = ["Emb02_t001", "Emb01_t10", "Emb01_t9", "t003", "t001", "alone", "b-frame7", "b 8"]
    assert group_series(stems) == [
        Series("alone", ["alone"], [0]),
        Series("b", ["b-frame7", "b 8"], [7, 8]),
        Series("Emb01", ["Emb01_t9", "Emb01_t10"], [9, 10]),
        Series("Emb02", ["Emb02_t001"], [1]),
        Series("series", ["t001", "t003"], [1, 3]),
    ]


def test_missing_frames_are_those_between_the_first_and_the_last():
    assert Series("a", ["x", "y", "z"], [3, 4, 7]).missing == [5, 6]
    assert Series("a", ["x"], [3]).missing == []


def test_two_images_of_one_frame_are_refused():
    with pytest.raises(InputError, match="a_t01 and a_t1 are both frame 1 of a"):
        group_series(["a_t01", "a_t1"])


def test_a_file_of_several_time_points_is_as_many_images(tmp_path):
    movie, single, bad = (tmp_path / name for name in ("movie.tif", "single.tif", "bad.tif"))
    tifffile.imwrite(movie, np.zeros((3, 2, 4, 4), np.uint16), imagej=True, metadata={"axes": "TZYX"})
    tifffile.imwrite(single, np.zeros((2, 4, 4), np.uint16), imagej=True, metadata={"axes": "ZYX"})
    bad.write_bytes(b"no image")
    assert frames_of([movie, single, bad]) == [*(Frame(movie, i) for i in range(3)), single, bad]
    assert str(Frame(movie, 2)) == f"{movie}, frame 2"


@pytest.fixture
def movie(tmp_path) -> Path:
    folder = tmp_path / "movies"
    folder.mkdir()
    tifffile.imwrite(
        folder / "a.tif", np.zeros((3, 2, 8, 8), np.uint16), imagej=True, metadata={"axes": "TZYX"}
    )
    return folder / "a.tif"


def test_a_chosen_frame_of_a_movie_has_a_stem_of_its_own(movie, tmp_path):
    tifffile.imwrite(
        tmp_path / "b.tif", np.zeros((2, 8, 8), np.uint16), imagej=True, metadata={"axes": "ZYX"}
    )
    found = frames_of([movie, tmp_path / "b.tif"], 1)
    assert [image_stem(image) for image in found] == ["a_t001", "b"]
    assert frames_of([movie], 7) == [movie]  # the read says which frames there are


def test_a_movie_and_a_file_of_one_of_its_frames_collide(movie):
    other = movie.with_name("a_t001.tif")
    other.write_bytes(b"not an image")
    with pytest.raises(InputError) as caught:
        frames_of([movie, other])
    assert f"{movie}, frame 1 and {other} would both write a_t001_labels.tif" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (["a.tif", "a_labels.tif"], ["a.tif"]),
        (["a.tif", "a_labels_t000.tif"], ["a.tif"]),
        (["movie.tif", "movie_t000_labels.tif", "movie_t001_labels.tif"], ["movie.tif"]),
        (["a_labels.tif", "b_labels.tif"], ["a_labels.tif", "b_labels.tif"]),  # their images are elsewhere
        (["white_labels.tif", "other.tif"], ["other.tif", "white_labels.tif"]),
    ],
)
def test_label_images_beside_their_images_are_no_images(tmp_path, names, images):
    assert [path.name for path in without_results(list_images([touch(tmp_path / "in", *names)]))] == images


@pytest.mark.parametrize(
    "stems",
    [
        ["e_20230105103000", "e_20230105104000", "e_20230105110000"],
        ["e_20230105_1030", "e_20230105_1040", "e_20230105_1100"],
        ["e_2023-01-05_10-30-00", "e_2023-01-05_10-40-00", "e_2023-01-05_11-00-00"],
        ["e-2023.01.05T10:30", "e-2023.01.05T10:40", "e-2023.01.05T11:00"],
        ["e_20230105_10h30m00s", "e_20230105_10h40m00s", "e_20230105_11h00m00s"],
    ],
)
def test_time_stamps_in_names_are_times(stems):
    (series,) = group_series([stems[2], stems[0], stems[1]])
    assert (series.name, series.stems, series.frames, series.missing) == ("e", stems, [0, 1, 2], [])
    assert series.hours == pytest.approx([0, 1 / 6, 1 / 2])
    assert series.times_h(10) == series.hours


def test_days_in_names_are_times_and_numbers_that_are_no_date_are_frames():
    (days,) = group_series(["e_20230228", "e_20230301"])
    assert days.hours == [0, 24]
    (frames,) = group_series(["e_20231301", "e_20231302"])
    assert (frames.hours, frames.frames) == (None, [20231301, 20231302])


def test_a_letter_f_before_the_number_is_a_frame():
    assert group_series(["e_f001", "e_f002"])[0].frames == [1, 2]


def test_channels_and_positions_are_no_times():
    stems = [f"Emb01_t{t:03d}_{c}" for c in ("C0", "ch1") for t in (0, 1)]
    assert group_series(stems) == [
        Series("Emb01_C0", stems[:2], [0, 1]),
        Series("Emb01_ch1", stems[2:], [0, 1]),
    ]
    assert group_series(["plate_A1_field0", "plate_B2_field0"]) == [
        Series("plate_A1_field0", ["plate_A1_field0"], [0]),
        Series("plate_B2_field0", ["plate_B2_field0"], [0]),
    ]


def test_fields_of_a_plate_have_names_that_tell_the_wells_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plate = Path("plate.ome.zarr")
    for well in ("A/1", "B/12"):
        field = plate / well / "0"
        field.mkdir(parents=True)
        (field / ".zattrs").write_text("{}")
    (plate / ".zattrs").write_text('{"plate": {}}')
    images = list_images([plate / "A/1/0", plate / "B/12/0"])
    assert [image_stem(image) for image in images] == ["plate_A1_field0", "plate_B12_field0"]
