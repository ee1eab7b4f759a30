"""Criteria of whole series, exact for known labels."""

import math

import numpy as np
import pytest
import tifffile
from helpers import SHARED
from scipy import ndimage as ndi

from qcanet_monai.core.measure.stages import STAGES
from qcanet_monai.errors import InputError
from qcanet_monai.io import read_csv, read_labels, write_csv, write_json, write_labels
from qcanet_monai.simulator.series import simulate_series
from qcanet_monai.simulator.settings import Simulation
from qcanet_monai.timelapse.criteria import read_embryos, write_criteria

SPACING = (3.0, 1.5, 1.5)
AUTHORS = SHARED / "data/qcanet_16cell/authors_output.tif"


def blocks(folder, name, numbers, first=1):
    """Write label images of given numbers of blocks of 8 voxels."""
    folder.mkdir(exist_ok=True)
    for frame, number in enumerate(numbers, first):
        labels = np.zeros((4, 4, 4 * max(numbers) + 4), np.uint16)
        for label in range(number):
            labels[1:3, 1:3, 4 * label + 1 : 4 * label + 3] = label + 1
        write_labels(folder / f"{name}_t{frame:02d}_labels.tif", labels, spacing=SPACING)


def test_numbers_and_stages_of_known_labels_are_exact(tmp_path):
    blocks(tmp_path / "in", "Emb01", [1, 1, 2, 2, 2, 3, 4, 4])
    (embryo,) = read_embryos(tmp_path / "in", interval_min=30)
    assert embryo.name == "Emb01"
    assert [row["n_nuclei"] for row in embryo.timepoints] == [1, 1, 2, 2, 2, 3, 4, 4]
    assert [row["time_h"] for row in embryo.timepoints] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert [row["mean_volume_um3"] for row in embryo.timepoints] == pytest.approx([8 * 6.75] * 8)
    hours = dict(zip(embryo.stages["stage"].tolist(), embryo.stages["duration_h"].tolist(), strict=True))
    assert [hours[name] for name in STAGES] == [1, 1.5, 0.5, 1, 0, 0, 0, 0, 0, 0]


def test_every_criterion_of_a_simulated_embryo_is_that_of_its_true_labels(tmp_path):
    frames = list(simulate_series(3, timepoints=6, spacing=SPACING, settings=Simulation()))
    for time, frame in enumerate(frames):
        write_labels(tmp_path / f"e_t{time}.tif", frame.instances, spacing=SPACING)
    (embryo,) = read_embryos(tmp_path, interval_min=60)
    for frame, row, centroids in zip(frames, embryo.timepoints, embryo.centroids_um, strict=True):
        labels, n = frame.instances, len(frame.numbers)
        voxels = [int((labels == label).sum()) for label in range(1, n + 1)]
        assert row["n_nuclei"] == n
        assert row["sum_volume_um3"] == pytest.approx(sum(voxels) * 6.75)
        assert centroids == pytest.approx(frame.centres_voxel * SPACING)
        beside = [int(((labels == one) & ndi.binary_dilation(labels == 0)).sum()) for one in range(1, n + 1)]
        assert row["sum_surface_contact_um2"] == pytest.approx(sum(beside) * 6.75 ** (2 / 3))
        if n >= 16:
            distance = np.linalg.norm(centroids - centroids.mean(0), axis=1)
            assert row["n_inner"] == (distance <= 0.4 * distance.max()).sum()
            assert row["n_inner"] + row["n_outer"] == n
    assert embryo.timepoints[-1]["n_nuclei"] >= 16


def test_tables_hold_every_embryo_and_their_means(tmp_path):
    blocks(tmp_path / "one", "a", [1, 2, 4])
    blocks(tmp_path / "one", "b", [1, 2, 2])
    blocks(tmp_path / "two", "c", [2, 2, 6])
    embryos = [e for name in ("one", "two") for e in read_embryos(tmp_path / name, interval_min=60)]
    write_criteria(embryos, tmp_path / "out", blastocyst_h={})
    table = read_csv(tmp_path / "out/timepoints.csv")
    assert table["embryo"].tolist() == [*"aaabbbccc"]
    assert table["n_nuclei"].tolist() == [1, 2, 4, 1, 2, 2, 2, 2, 6]
    assert np.isnan(table["aligned_h"]).all()
    mean = read_csv(tmp_path / "out/mean.csv")
    assert mean["n_embryos"].tolist() == [3, 3, 3]
    assert mean["mean_over_embryos_n_nuclei"] == pytest.approx([4 / 3, 2, 4], rel=1e-5)
    assert mean["sd_over_embryos_n_nuclei"] == pytest.approx([3**-0.5, 0, 2], rel=1e-5)
    shells = read_csv(tmp_path / "out/space_fill.csv")
    assert shells["n_centroids"][shells["embryo"] == "a"].sum() == 7
    assert len(read_csv(tmp_path / "out/stages.csv")["stage"]) == 3 * len(STAGES)
    assert read_csv(tmp_path / "out/embryos.csv")["most_nuclei"].tolist() == [4, 2, 6]


def test_embryos_are_aligned_where_their_blastocyst_time_is_given(tmp_path):
    blocks(tmp_path / "in", "a", [1, 2, 4])
    blocks(tmp_path / "in", "b", [1, 1, 2])
    blocks(tmp_path / "in", "c", [9, 9, 9])
    embryos = read_embryos(tmp_path / "in", interval_min=60)
    write_criteria(embryos, tmp_path / "out", blastocyst_h={"a": 1.0, "b": 2.0})
    mean = read_csv(tmp_path / "out/mean.csv")
    assert mean["aligned_h"].tolist() == [-2, -1, 0, 1]
    assert mean["n_embryos"].tolist() == [1, 2, 2, 1]
    assert mean["mean_over_embryos_n_nuclei"].tolist() == [1, 1, 2, 4]
    with pytest.raises(InputError, match="expected a blastocyst time for one of a, b, c, got d"):
        write_criteria(embryos, tmp_path / "out", blastocyst_h={"d": 1.0})


def test_a_missing_frame_is_told_and_shifts_no_time(tmp_path):
    blocks(tmp_path / "in", "e", [2, 2, 2, 4])
    (tmp_path / "in/e_t03_labels.tif").unlink()
    (embryo,) = read_embryos(tmp_path / "in", interval_min=60)
    assert embryo.series.missing == [3]
    assert [row["time_h"] for row in embryo.timepoints] == [0, 1, 3]


def test_no_nuclei_at_all_and_a_single_frame_have_their_criteria(tmp_path):
    write_labels(tmp_path / "alone.tif", np.zeros((4, 4, 4), np.uint16), spacing=SPACING)
    (embryo,) = read_embryos(tmp_path / "alone.tif")
    assert embryo.timepoints[0]["n_nuclei"] == 0
    assert math.isnan(embryo.synchrony.in_between_share)
    write_criteria([embryo], tmp_path / "out", blastocyst_h={})
    assert read_csv(tmp_path / "out/embryos.csv")["most_nuclei"].tolist() == [0]


def test_the_interval_is_read_from_what_segment_wrote(tmp_path):
    nothing = {"image": [], "label": [], "confidence": [], **{name: [] for name in nuclei_columns()}}
    write_csv(tmp_path / "nuclei.csv", nothing)
    write_csv(tmp_path / "timepoints.csv", {"image": ["a_t1", "a_t2"], "frame": [0, 1]})
    with pytest.raises(InputError, match="--interval-min MINUTES"):
        read_embryos(tmp_path)
    write_json(tmp_path / "run.json", {"interval_min": 15})
    assert [row["time_h"] for row in read_embryos(tmp_path)[0].timepoints] == [0, 0.25]


def nuclei_columns():
    from qcanet_monai.core.measure.nuclei import nucleus_table

    return [name for name in nucleus_table(np.zeros((1, 1, 1), int), spacing=SPACING) if name != "label"]


def test_embryos_of_one_name_are_refused(tmp_path):
    for name in ("one", "two"):
        blocks(tmp_path / name, "e", [1])
    embryos = [e for name in ("one", "two") for e in read_embryos(tmp_path / name)]
    with pytest.raises(InputError, match="different names, got e twice"):
        write_criteria(embryos, tmp_path / "out", blastocyst_h={})


def sixteen_boxes(folder):
    """Write a TIFF without voxel size: labels with gaps, touching, at the border."""
    path, labels = folder / "boxes.tif", np.zeros((8, 14, 17), np.uint8)
    for number in range(16):
        z, y, x = 4 * (number // 8), 7 * (number // 4 % 2), 4 * (number % 4)
        labels[z : z + 3, y : y + 6, x : x + 4] = 3 * number + 2
    tifffile.imwrite(path, labels)
    return path


def authors_output(_folder):
    if not AUTHORS.is_file():
        pytest.skip("the real images are not beside the project")
    return AUTHORS


@pytest.mark.parametrize("sixteen", [sixteen_boxes, authors_output])
def test_sixteen_nuclei_are_counted_as_plain_counting_does(sixteen, tmp_path):
    path, spacing = sixteen(tmp_path), (1.75, 0.8, 0.8)
    (embryo,) = read_embryos(path, spacing=spacing)
    labels = tifffile.imread(path)
    assert np.array_equal(labels, read_labels(path, spacing=spacing).array)
    values = [value for value in np.unique(labels) if value]
    row = embryo.timepoints[0]
    assert row["n_nuclei"] == len(values) == 16
    assert row["sum_volume_um3"] == pytest.approx(int((labels > 0).sum()) * 1.12)
    beside = 0
    for z, y, x in np.argwhere(labels):
        around = [(z - 1, y, x), (z + 1, y, x), (z, y - 1, x), (z, y + 1, x), (z, y, x - 1), (z, y, x + 1)]
        inside = [p for p in around if all(0 <= c < n for c, n in zip(p, labels.shape, strict=True))]
        beside += any(labels[p] == 0 for p in inside)
    assert row["sum_surface_contact_um2"] == pytest.approx(beside * 1.12 ** (2 / 3))
