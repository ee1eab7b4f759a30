"""Properties of files, tables and measurements that hold for all inputs."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose, assert_array_equal

from qcanet_monai.core.grey import grey_values
from qcanet_monai.core.measure.evidence import evidence
from qcanet_monai.core.measure.nuclei import nucleus_table
from qcanet_monai.errors import QCANetError
from qcanet_monai.evaluation.evaluate import evaluate_labels
from qcanet_monai.io import read_csv, read_labels, read_volume, write_csv, write_labels, write_volume
from qcanet_monai.io.names import group_series
from qcanet_monai.timelapse.ctc import read_tracks, write_tracks
from qcanet_monai.tuning.study_file import validated

SHAPES = st.tuples(st.integers(2, 5), st.integers(2, 9), st.integers(2, 9))
EDGES = st.floats(0.01, 15, allow_subnormal=False)
SPACINGS = st.tuples(EDGES, EDGES, EDGES)
LABELS = SHAPES.flatmap(lambda shape: arrays.arrays(np.uint16, shape, elements=st.integers(0, 4)))
IMAGES = st.sampled_from(["uint8", "uint16", "int16", "float32"]).flatmap(
    lambda dtype: SHAPES.flatmap(
        lambda shape: arrays.arrays(
            dtype,
            shape,
            elements=st.floats(-1e6, 1e6, width=32) if dtype == "float32" else st.integers(0, 127),
        )
    )
)
WORDS = st.sampled_from([*"abtTcC_-. 019", "ch", "frame", "20230105"])
STEMS = st.lists(WORDS, min_size=1, max_size=8).map("".join)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["bundle", "space", "settings", "trials", "epochs", "scheduler", "sampler", "resources"]
)
few = settings(max_examples=60, deadline=None)
NOTHING = object()


def unless_refused(call):
    """Return a call's result, or NOTHING after an error of the project in one line."""
    try:
        return call()
    except QCANetError as error:
        message = str(error)
    assert "\n" not in message
    return NOTHING


@few
@given(image=IMAGES, spacing=SPACINGS, suffix=st.sampled_from([".tif", ".nii.gz"]))
def test_volumes_read_back_as_written(image, spacing, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        if unless_refused(lambda: write_volume(path, image, spacing=spacing)) is NOTHING:
            assert image.dtype == np.int16
            return
        found = unless_refused(lambda: read_volume(path))
    if found is NOTHING:
        assert image.min() == image.max()
        return
    assert_array_equal(found.array, image)
    assert_allclose(found.spacing, spacing, rtol=1e-5)


@few
@given(labels=LABELS, spacing=SPACINGS)
def test_measurements_follow_the_labels(labels, spacing):
    with tempfile.TemporaryDirectory() as folder:
        write_labels(Path(folder) / "a.tif", labels, spacing=spacing)
        assert_array_equal(read_labels(Path(folder) / "a.tif", instances=False).array, labels)
    table = nucleus_table(labels, spacing=spacing)
    assert_array_equal(table["label"], np.unique(labels[labels > 0]))
    assert table["n_voxels"].sum() == np.count_nonzero(labels)
    assert (table["surface_mesh_um2"] > 0).all()
    scores = evaluate_labels(labels, labels, spacing=spacing)
    assert scores["iou"] == 1 or not labels.any()
    evidence(labels * 7.0, labels)


@few
@given(image=IMAGES)
def test_grey_values_are_finite_and_keep_the_order(image):
    found = grey_values(image)
    assert found.shape == image.shape
    assert np.isfinite(found).all()
    inside = found == image
    assert inside.any()


@few
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=8),
            st.floats(-1e5, 1e5),
        ),
        max_size=5,
    )
)
def test_tables_read_back_as_written(rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        write_csv(path, [{"image": text, "value": value} for text, value in rows], header=["image", "value"])
        found = read_csv(path)
    assert found["image"].tolist() == [text for text, _ in rows]
    assert_allclose(found["value"].astype(float), [value for _, value in rows], rtol=1e-5, atol=1e-9)


@few
@given(st.lists(STEMS, max_size=8, unique=True))
def test_every_stem_has_one_place_in_a_series(stems):
    series = unless_refused(lambda: group_series(stems))
    if series is NOTHING:
        return
    assert sorted(stem for one in series for stem in one.stems) == sorted(stems)
    assert all(one.frames == sorted(set(one.frames)) for one in series)


@few
@given(st.dictionaries(KEYS | st.text(max_size=8), PLAIN, max_size=5))
def test_a_study_is_valid_or_refused(content):
    unless_refused(lambda: validated(content, "study.yaml"))


@few
@given(st.lists(st.lists(st.integers(-2, 9), min_size=3, max_size=5), max_size=5))
def test_tracks_are_valid_or_refused(lines):
    text = "".join(" ".join(map(str, line)) + "\n" for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "res_track.txt"
        path.write_text(text)
        tracks = unless_refused(lambda: read_tracks(path))
        if tracks is not NOTHING:
            write_tracks(path, tracks)
            assert read_tracks(path) == tracks
