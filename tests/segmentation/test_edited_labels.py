"""Edited label images are kept, measured again, and refused with old tables."""

import json
import shutil

import numpy as np
import pytest
from helpers import ball

import qcanet_monai as qcanet
from qcanet_monai.errors import InputError, OutputError
from qcanet_monai.io import read_csv, read_labels, read_volume, write_labels, write_volume
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.timelapse.criteria import read_embryos

SPACING = (1.75, 0.8, 0.8)
SHAPE = (18, 52, 52)
AT, AT_UM = (10, 18, 18), (17.5, 14.4, 14.4)  # within a nucleus


def picture(*centres):
    nuclei = np.any([ball(SHAPE, centre, 6, SPACING) for centre in centres], axis=0)
    return np.where(nuclei, 900, 100).astype(np.uint16)


@pytest.fixture(scope="module")
def model():
    return qcanet.load("qcanet")


@pytest.fixture(scope="module")
def segmented(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("edited")
    images = [folder / f"Emb01_t{frame}.tif" for frame in range(2)]
    for image in images:
        write_volume(image, picture(AT_UM, (17.5, 30, 30)), spacing=SPACING)
    segment_files(images, folder / "OUT", model, interval_min=10)
    return folder, images


@pytest.fixture
def out(segmented, tmp_path):
    shutil.copytree(segmented[0] / "OUT", tmp_path / "OUT")
    return tmp_path / "OUT"


def grown(labels):
    labels[ball(SHAPE, AT_UM, 9, SPACING) & (labels == 0)] = labels[AT]


def deleted(labels):
    labels[labels == labels[AT]] = 0


def merged(labels):
    labels[labels > 0] = 2


def split(labels):
    left = np.indices(SHAPE)[2] < 18
    labels[left & (labels == labels[AT])] = 9


def added(labels):
    labels[2:5, 45:50, 5:10] = 40


@pytest.mark.filterwarnings("ignore::qcanet_monai.errors.DataWarning")
@pytest.mark.parametrize(
    ("edit", "way"),
    [(edit, "measure") for edit in (grown, deleted, merged, split, added)] + [(added, "segment")],
)
def test_tables_follow_the_labels(segmented, model, out, edit, way):
    path = out / "Emb01_t1_labels.tif"
    labels = read_labels(path).array
    edit(labels)
    write_labels(path, labels, spacing=SPACING)
    for use in (lambda: read_embryos(out), lambda: qcanet.track(out)):
        with pytest.raises(InputError, match=r"Emb01_t1_labels\.tif was edited since: run `qcanet measure"):
            use()
    before = path.read_bytes()
    if way == "segment":
        result = segment_files(segmented[1], out, model)
        assert result.kept == 1
        assert segment_files(segmented[1], out, model).kept == 2
        segment_files(segmented[1], out, qcanet.load("qcanet", recover_border=True))
    else:
        qcanet.measure(out)
    assert path.read_bytes() == before
    table = read_csv(out / "nuclei.csv")
    mine = table["image"] == "Emb01_t1"
    numbers, sizes = np.unique(labels[labels > 0], return_counts=True)
    np.testing.assert_array_equal(table["label"][mine], numbers)
    np.testing.assert_array_equal(table["n_voxels"][mine], sizes)
    assert not np.isnan(table["confidence"]).any()
    image = read_volume(segmented[1][1]).array
    light = [image[labels == number].mean() for number in numbers]
    np.testing.assert_allclose(table["mean_intensity"][mine], light, rtol=1e-5)
    assert len(read_embryos(out)[0].timepoints) == 2
    assert json.loads((out / "run.json").read_text())["interval_min"] == 10
    qcanet.track(out)


def test_tracks_are_not_used_after_an_edit_of_what_they_link(out):
    qcanet.track(out)
    path = out / "Emb01_t1_labels.tif"
    labels = read_labels(path).array
    grown(labels)
    write_labels(path, labels, spacing=SPACING)
    qcanet.measure(out)
    with pytest.raises(InputError, match="was edited since: run `qcanet track"):
        read_embryos(out / "tracks")
    qcanet.track(out)
    read_embryos(out / "tracks")


def test_labels_of_others_are_measured_and_never_replaced(segmented, model, out, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for frame in range(2):
        shutil.copy(out / f"Emb01_t{frame}_labels.tif", other / f"Emb01_t{frame}_labels.tif")
    with pytest.raises(
        OutputError, match="was not made by `qcanet segment`: measure it with `qcanet measure"
    ):
        segment_files(segmented[1], other, model)
    assert qcanet.measure(other, interval_min=10) == {"Emb01_t0": 2, "Emb01_t1": 2}
    table, own = read_csv(other / "nuclei.csv"), read_csv(out / "nuclei.csv")
    np.testing.assert_array_equal(table["volume_um3"], own["volume_um3"])
    assert np.isnan(table["confidence"]).all()
    assert np.isnan(table["mean_intensity"]).all()
    qcanet.measure(other, images=segmented[1], model="qcanet")
    np.testing.assert_allclose(read_csv(other / "nuclei.csv")["confidence"], own["confidence"], rtol=1e-4)
    assert len(read_embryos(other)[0].timepoints) == 2
    assert len(qcanet.track(other)[0].tracks) == 2


def test_labels_of_another_shape_than_their_image_are_refused(segmented, model, out):
    path = out / "Emb01_t1_labels.tif"
    write_labels(path, read_labels(path).array[:, 1:], spacing=SPACING)
    for use in (
        lambda: qcanet.measure(out),
        lambda: segment_files(segmented[1], out, model).raise_failures(),
    ):
        with pytest.raises(InputError, match=r"expected .*Emb01_t1_labels\.tif to have the shape of"):
            use()
