"""Tracks: of true labels nearly all, of repaired labels exactly the broken ones."""

from pathlib import Path

import numpy as np
import pytest

from qcanet_monai.core.measure.nuclei import nucleus_table
from qcanet_monai.core.metrics.tracks import Track, daughters_of
from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.errors import InputError
from qcanet_monai.evaluation.evaluate import evaluate_labels
from qcanet_monai.io import read_csv, read_labels, write_csv, write_labels
from qcanet_monai.report.page import write_report
from qcanet_monai.timelapse.criteria import read_embryos
from qcanet_monai.timelapse.ctc import tracked_images
from qcanet_monai.timelapse.lineage import track
from qcanet_monai.timelapse.linking import Linking, link

SPACING = (2.0, 1.0, 1.0)
# an embryo that stays in the field, all cells alive
WHOLE = """
view: {depth_um: 90, width_um: 104, shift_z_um: 0, shift_y_um: 0, shift_x_um: 0, oval: 0}
growth: {apoptosis: 0}
"""


def measured(labels, spacing):
    table = nucleus_table(labels, spacing=spacing)
    n = len(table["label"])
    known = {"confidence": np.full(n, 0.9), "uncertainty_um": np.arange(n) + 0.5}
    return table | known | {"recovered": np.zeros(n, int)}


def segmented(folder: Path, images, name="Emb01", spacing=SPACING) -> Path:
    """Write the segmentation's files that tracking reads, for given labels."""
    folder.mkdir(exist_ok=True)
    rows = []
    for frame, labels in enumerate(images):
        stem = f"{name}_t{frame:03d}"
        write_labels(folder / f"{stem}_labels.tif", labels, spacing=spacing)
        table = measured(labels, spacing)
        for place in range(len(table["label"])):
            rows.append(
                {"image": stem, "frame": frame} | {key: column[place] for key, column in table.items()}
            )
    header = ["image", "frame", *measured(np.zeros((1, 1, 1), int), spacing)]
    write_csv(folder / "nuclei.csv", rows, header=header)
    stems = [f"{name}_t{frame:03d}" for frame in range(len(images))]
    write_csv(folder / "timepoints.csv", {"image": stems, "frame": range(len(images))})
    return folder


def drifting(frames=6):
    images = np.zeros((frames, 6, 12, 30), np.uint16)
    for frame in range(frames):
        images[frame, 2:4, 3:8, 3 + frame : 8 + frame] = 1
        images[frame, 2:4, 3:8, 8 + frame : 13 + frame] = 2
    return images


def tracked(folder):
    paths, tracks = tracked_images(folder / "tracks/Emb01_RES")
    return np.stack([read_labels(path).array for path in paths]), tracks


def test_nuclei_that_drift_keep_their_labels(tmp_path):
    images = drifting()
    images[3] = np.array([0, 2, 1])[images[3]]  # labels carry no identity across frames
    (found,) = track(segmented(tmp_path, images))
    labels, tracks = tracked(tmp_path)
    assert np.array_equal(labels, drifting())
    assert tracks == found.tracks == [Track(1, 0, 5, 0), Track(2, 0, 5, 0)]
    assert found.repairs == {}
    known = read_csv(tmp_path / "tracks/nuclei.csv")["uncertainty_um"]
    assert known.tolist() == [0.5, 1.5] * 3 + [1.5, 0.5] + [0.5, 1.5] * 2  # by nucleus, not by row


def test_a_nucleus_that_vanishes_in_a_frame_is_restored_and_flagged(tmp_path):
    images = drifting()
    images[2][images[2] == 2] = 0
    images[3][images[3] == 2] = 0
    (found,) = track(segmented(tmp_path, images))
    assert np.array_equal(tracked(tmp_path)[0], drifting())
    assert found.repairs == {"restored": 2}
    table = read_csv(tmp_path / "tracks/nuclei.csv")
    flagged = table["repair"] != "no"
    assert table["frame"][flagged].tolist() == [2, 3]
    assert table["label"][flagged].tolist() == [2, 2]
    assert table["n_voxels"].tolist() == [50] * 12
    assert np.isnan(table["uncertainty_um"][flagged]).all()


def test_nuclei_merged_in_a_frame_are_parted_and_flagged(tmp_path):
    images = drifting()
    images[2][images[2] == 2] = 1
    (found,) = track(segmented(tmp_path, images), max_distance_um=4)
    assert np.array_equal(tracked(tmp_path)[0] > 0, drifting() > 0)
    assert found.repairs == {"split": 1}
    assert [(track.begin, track.end) for track in found.tracks] == [(0, 5), (0, 5)]


def test_a_gap_that_cannot_be_bridged_ends_a_track(tmp_path):
    images = drifting()[:, :, 3:]  # the border cuts both boxes: a lost one may have left the field
    images[2][images[2] == 2] = 0
    (found,) = track(segmented(tmp_path, images))
    assert found.repairs == {}
    assert found.tracks == [Track(1, 0, 5, 0), Track(2, 0, 1, 0), Track(3, 3, 5, 2)]
    labels, _ = tracked(tmp_path)
    assert np.array_equal(labels[4], np.array([0, 1, 3])[images[4]])
    table = read_csv(tmp_path / "tracks/nuclei.csv")
    assert table["parent"][table["label"] == 3].tolist() == [2, 2, 2]


def test_a_division_has_a_mother_and_two_daughters():
    points = [[[0, 0, 0]], [[0, 0, 0.5]], [[0, 0, -4.0], [0, 0, 4.0]], [[0, 0, -5.0], [0, 0, 5.0]]]
    paths = link([np.array(frame, float) for frame in points], Linking())
    assert [ids.tolist() for ids in paths.identities] == [[1], [1], [2, 3], [2, 3]]
    assert paths.parents == {2: 1, 3: 1}


def test_what_is_small_and_outlives_cells_without_dividing_is_left_out():
    def cells(frame):
        """Two cells that divide every 10 frames, far apart, and a body that never does."""
        count = 2 ** (1 + frame // 10)
        return np.array([[0, 40.0 * i, 0] for i in range(count)] + [[90.0, 0, 0]])

    frames = 40
    points = [cells(frame) for frame in range(frames)]
    volumes = [np.array([100.0] * (len(one) - 1) + [20.0]) for one in points]
    linking = Linking(max_distance_um=15, max_splitting_distance_um=10_000)
    kept = link(points, linking, volumes)
    assert kept.bodies == frames
    assert all(identities[-1] == 0 and (identities[:-1] > 0).all() for identities in kept.identities)
    large = [np.full(len(one), 100.0) for one in points]
    assert link(points, linking, large).bodies == 0
    assert link(points[:20], linking, volumes[:20]).bodies == 0  # too few cycles to know their length


@pytest.mark.parametrize("counts", [[0, 0], [1], [], [0, 1, 0]])
def test_series_without_anything_to_link_have_no_links(counts):
    paths = link([np.zeros((count, 3)) for count in counts], Linking())
    assert [len(ids) for ids in paths.identities] == counts
    assert paths.parents == {}


def test_the_true_labels_of_a_simulated_embryo_give_its_lineage(tmp_path):
    (tmp_path / "whole.yaml").write_text(WHOLE)
    simulate_dataset(
        tmp_path / "data", embryos=1, timepoints=60, seed=5, spacing=(3.5, 1.6, 1.6), generations=3.5,
        settings=tmp_path / "whole.yaml", tissue_fraction=0, workers=1,
    )  # fmt: skip
    truth = tmp_path / "data/Tracks/train/Emb01_GT/TRA"
    paths = sorted((tmp_path / "data/GroundTruth/train/GroundTruth_QCANet").glob("*.tif"))
    images = [read_labels(path).array for path in paths]
    spacing = read_labels(paths[0]).spacing
    folder = segmented(tmp_path / "out", images, spacing=spacing)
    track(folder)
    scores = evaluate_labels(folder / "tracks/Emb01_RES", truth)["tracks"]
    assert scores["tra"] >= 0.95
    assert scores["divisions_f1"] >= 0.85
    assert scores["det"] == 1
    _, true = tracked_images(truth)
    assert len(daughters_of(true)) >= 3
    # criteria of the tracked series equal those of the labels
    (one,), (other,) = (read_embryos(where, interval_min=10) for where in (folder, folder / "tracks"))
    assert [row["n_nuclei"] for row in one.timepoints] == [row["n_nuclei"] for row in other.timepoints]
    assert [len(np.unique(image)) - 1 for image in images] == [row["n_nuclei"] for row in one.timepoints]


def test_a_shorter_series_replaces_a_longer_one(tmp_path):
    track(segmented(tmp_path, drifting(6)))
    for path in tmp_path.glob("*_t005*"):
        path.unlink()
    track(segmented(tmp_path, drifting(5)))
    assert len(tracked(tmp_path)[0]) == 5


def test_a_frame_of_another_shape_is_tracked_and_mends_nothing(tmp_path):
    images = [*drifting()]
    images[2] = images[2][:, :, :10]  # the second nucleus lies outside
    (found,) = track(segmented(tmp_path, images))
    assert found.repairs == {}
    assert [(track.begin, track.end) for track in found.tracks] == [(0, 5), (0, 1), (3, 5)]


@pytest.mark.parametrize("frames", [1, 3])
def test_series_without_nuclei_have_empty_tables(tmp_path, frames):
    (found,) = track(segmented(tmp_path, drifting(frames) * 0))
    assert found.tracks == []
    table = read_csv(tmp_path / "tracks/nuclei.csv")
    assert len(table["label"]) == 0
    assert {"parent", "repair"} <= set(table)
    (embryo,) = read_embryos(tmp_path / "tracks", interval_min=10)
    assert [row["n_nuclei"] for row in embryo.timepoints] == [0] * frames
    assert write_report(tmp_path, interval_min=10).is_file()


def test_tables_of_other_images_are_refused(tmp_path):
    segmented(tmp_path, drifting())
    write_labels(tmp_path / "Emb01_t002_labels.tif", drifting()[0] * 3, spacing=SPACING)
    with pytest.raises(InputError, match=r"to hold the labels of nuclei\.csv, got others"):
        track(tmp_path)
