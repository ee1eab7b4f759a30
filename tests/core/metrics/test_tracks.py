"""Tracking scores by hand, and against py-ctcmetrics on random lineages."""

import math

import numpy as np
import pytest
import tifffile

from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.tracks import (
    Track,
    check_tracks,
    daughters_of,
    division_scores,
    tracking_scores,
    tracks_of,
)
from qcanet_monai.errors import InputError

# one cell that divides after two frames
ROWS = [[1, 1, 0, 0], [1, 1, 0, 0], [2, 2, 3, 3], [2, 2, 3, 3]]
TRACKS = [Track(1, 0, 1, 0), Track(2, 2, 3, 1), Track(3, 2, 3, 1)]


def scored(rows, tracks, score=tracking_scores, **options):
    tables = [
        overlap_table(np.array([[one]]), np.array([[two]])) for one, two in zip(ROWS, rows, strict=True)
    ]
    return score(tables, TRACKS, tracks, **options)


def test_a_lineage_agrees_with_itself():
    found = scored(ROWS, TRACKS)
    assert found[:3] == (1, 1, 1)
    assert not any(found[3:])
    assert scored(ROWS, TRACKS, division_scores) == (1, 1, 0, 0)


def test_labels_of_its_own_agree_too():
    rows = (np.array(ROWS) * 7).tolist()
    tracks = [t._replace(label=7 * t.label, parent=7 * t.parent) for t in TRACKS]
    assert scored(rows, tracks).tra == 1


def test_a_division_not_told_costs_its_two_edges():
    found = scored(ROWS, [t._replace(parent=0) for t in TRACKS])
    assert (found.edges_missed, found.edges_false, found.edges_wrong) == (2, 0, 0)
    # 6 nuclei, 5 edges
    assert (found.det, found.tra, found.lnk) == (1, 1 - 3 / (60 + 7.5), 1 - 2 / 5)


def test_a_daughter_taken_for_its_mother_is_a_wrong_edge():
    rows = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 3, 3], [1, 1, 3, 3]]
    tracks = [Track(1, 0, 3, 0), Track(3, 2, 3, 0)]
    found = scored(rows, tracks)
    assert (found.edges_missed, found.edges_false, found.edges_wrong) == (1, 0, 1)
    assert scored(rows, tracks, division_scores) == (0, 0, 0, 1)


def test_a_merged_pair_is_a_split_to_make():
    rows = [[1, 1, 0, 0], [1, 1, 0, 0], [2, 2, 3, 3], [2, 2, 2, 2]]
    tracks = [Track(1, 0, 1, 0), Track(2, 2, 3, 1), Track(3, 2, 2, 1)]
    found = scored(rows, tracks)
    assert (found.splits, found.missed, found.false) == (1, 0, 0)
    assert found.det == 1 - 5 / 60
    assert (found.edges_missed, found.edges_false) == (2, 0)


def test_nothing_found_scores_0_and_too_much_no_less():
    rows = [[0] * 4] * 4
    assert scored(rows, []).tra == 0
    assert scored(rows, []).missed == 6
    one = np.ones((1, 1, 2), int)
    many = [overlap_table(np.array([[[1, 0]]]), one * 0 + [[[0, 5]]])] * 30
    assert tracking_scores(many[:1], [Track(1, 0, 0, 0)], [Track(5, 0, 0, 0)]).det == 0


def test_without_a_reference_scores_are_undefined():
    empty = [overlap_table(np.zeros((1, 1), int), np.zeros((1, 1), int))]
    assert all(math.isnan(value) for value in tracking_scores(empty, [], [])[:3])
    assert math.isnan(division_scores(empty, [], []).f1)


def test_without_a_division_in_the_reference_their_f1_is_undefined():
    tables = [overlap_table(np.array([[one]]), np.array([[one]])) for one in ROWS]
    reference = [track._replace(parent=0) for track in TRACKS]
    f1, *counts = division_scores(tables, reference, TRACKS)
    assert math.isnan(f1)
    assert counts == [0, 1, 0]


def test_a_label_that_holds_exactly_half_of_a_nucleus_has_not_found_it():
    rows = [[1, 4, 0, 0], *ROWS[1:]]
    found = scored(rows, [Track(1, 0, 1, 0), *TRACKS[1:], Track(4, 0, 0, 0)])
    assert (found.splits, found.missed, found.false) == (0, 1, 2)


@pytest.mark.parametrize(("tolerance", "found"), [({}, 0), ({"tolerance": 0}, 0), ({"tolerance": 1}, 1)])
def test_a_division_may_come_late_by_the_tolerance(tolerance, found):
    rows = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [2, 2, 3, 3]]
    tracks = [Track(1, 0, 2, 0), Track(2, 3, 3, 1), Track(3, 3, 3, 1)]
    assert scored(rows, tracks, division_scores, **tolerance).found == found


def test_tracks_begin_and_end_with_their_labels():
    frames = [[1], [1], [2, 3], [3, 2], [3]]
    assert tracks_of([np.array(f) for f in frames], {2: 1, 3: 1, 9: 1}) == [
        Track(1, 0, 1, 0), Track(2, 2, 3, 1), Track(3, 2, 4, 1),
    ]  # fmt: skip
    assert {type(value) for track in tracks_of([np.array([1.0, 3.0])], {}) for value in track} == {int}


@pytest.mark.parametrize(("parent", "taken"), [(1, 1), (2, 0), (3, 0), (9, 0), (0, 0)])
def test_a_parent_is_one_that_was_shown_before_and_no_more(parent, taken):
    frames = [[1, 2, 3], [2, 3, 4], [3, 4]]  # 1 is gone when 4 appears, 2 and 3 are not
    assert tracks_of(frames, {4: parent})[-1] == Track(4, 1, 2, taken)


def test_a_track_without_an_entry_among_the_parents_has_none():
    assert tracks_of([[1], [2]], {}) == [Track(1, 0, 0, 0), Track(2, 1, 1, 0)]


def test_a_track_divides_into_two_or_more():
    assert list(daughters_of(TRACKS)) == [1]
    assert daughters_of(TRACKS[:2]) == {}


@pytest.mark.parametrize(
    ("tracks", "told"),
    [
        ([Track(0, 0, 1, 0)], "expected unique track labels from 1: give each track its own label"),
        (
            [Track(1, 0, 1, 0), Track(1, 0, 1, 0)],
            "expected unique track labels from 1: give each track its own label",
        ),
        ([Track(1, 2, 1, 0)], "expected 0 <= begin <= end of track 1, got begin 2, end 1"),
        ([Track(1, -1, 1, 0)], "expected 0 <= begin <= end of track 1, got begin -1, end 1"),
        (
            [Track(1, 0, 1, 0), Track(2, 1, 2, 1)],
            "expected parent 1 of track 2 to end before frame 1, got 1",
        ),
        (
            [Track(2, 1, 2, 1)],
            "expected parent 1 of track 2 to end before frame 1, got no such track",
        ),
    ],
)
def test_what_is_no_lineage_is_refused(tracks, told):
    with pytest.raises(InputError) as caught:
        check_tracks(tracks)
    assert str(caught.value) == told


@pytest.mark.parametrize("end", [4, 9])
def test_tracks_of_other_images_are_refused(end):
    told = (
        f"^expected predicted label 3 in frames 2 and {end} "
        r"\(first and last of its track; 4 frames given\): give the"
    )
    with pytest.raises(InputError, match=told):
        scored(ROWS, [Track(3, 2, end, 0)])


def test_a_track_that_its_last_frame_does_not_show_is_refused():
    with pytest.raises(InputError, match="expected predicted label 3 in frames 2 and 3"):
        scored([*ROWS[:3], [2, 2, 0, 0]], TRACKS)
    with pytest.raises(InputError, match="expected reference label 3 in frames 0 and 1"):
        tracking_scores([overlap_table([1, 3], [1, 3]), overlap_table([1], [1])], [Track(3, 0, 1, 0)], [])


@pytest.mark.parametrize("tracks", [TRACKS[:2], [*TRACKS[:2], Track(3, 3, 3, 1)]])
def test_a_label_without_a_track_in_its_frame_is_refused(tracks):
    with pytest.raises(InputError, match="a track for each predicted label, got none in frame 2 for label 3"):
        scored(ROWS, tracks)


def lineage(rng, frames=6, shape=(4, 12, 12)):
    """Draw blocks that drift, divide, vanish and appear: labels (T, Z, Y, X), tracks."""
    images = np.zeros((frames, *shape), np.uint16)
    cells, parents, last = {1: rng.integers(0, 8, 2)}, {}, 1
    for time in range(frames):
        for label, (y, x) in cells.items():
            images[time, :, y : y + 4, x : x + 4] = label
        cells = {label: np.clip(at + rng.integers(-1, 2, 2), 0, 8) for label, at in cells.items()}
        for label in list(cells):
            if rng.random() < 0.3:
                at = cells.pop(label)
                for way in rng.integers(-4, 5, (2, 2)):
                    last += 1
                    cells[last], parents[last] = np.clip(at + way, 0, 8), label
    return images, parents


def tracks_in(images, parents):
    shown = [np.unique(image[image > 0]) for image in images]
    tracks = tracks_of(shown, parents)
    ends = {t.label: t.end for t in tracks}
    return [t if ends.get(t.parent, 99) < t.begin else t._replace(parent=0) for t in tracks]


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_py_ctcmetrics(seed, tmp_path):
    ctc = pytest.importorskip("ctc_metrics.utils.representations", reason="py-ctcmetrics is not installed")
    from ctc_metrics.metrics import bc, det, lnk, tra
    from ctc_metrics.metrics.biological.bc import raw_division_metrics

    rng = np.random.default_rng(seed)
    reference, parents = lineage(rng)
    predicted = np.roll(reference, int(rng.integers(0, 2)), axis=2)
    for old, new in rng.integers(1, reference.max() + 1, (3, 2)):  # merge, lose and swap labels
        predicted[rng.integers(6)][predicted[rng.integers(6)] == old] = new
    predicted[3][predicted[3] == reference.max()] = 0
    wanted, given = tracks_in(reference, parents), tracks_in(predicted, parents)

    found = []
    for time, (one, two) in enumerate(zip(reference, predicted, strict=True)):
        paths = [tmp_path / f"{time}{kind}.tif" for kind in "rp"]
        for path, image in zip(paths, (one, two), strict=True):
            tifffile.imwrite(path, image)
        found.append(ctc.match(*map(str, paths)))
    labels_ref, labels_comp, mapped_ref, mapped_comp, _ = map(list, zip(*found, strict=True))
    both = np.array(wanted), np.array(given)
    counts = ctc.count_acyclic_graph_correction_operations(
        *both, labels_ref, labels_comp, mapped_ref, mapped_comp
    )
    tables = [overlap_table(one, two) for one, two in zip(reference, predicted, strict=True)]
    scores = tracking_scores(tables, wanted, given)
    assert scores[3:] == tuple(int(counts[name]) for name in ("NS", "FN", "FP", "ED", "EA", "EC"))
    assert scores[:3] == pytest.approx((det(**counts), tra(**counts)[0], lnk(**counts)))
    for tolerance in range(3):
        ours = division_scores(tables, wanted, given, tolerance=tolerance)
        theirs = raw_division_metrics(*both[::-1], mapped_ref, mapped_comp, tolerance)
        assert ours[1:] == theirs
        assert ours.f1 == pytest.approx(
            bc(*theirs) if wanted and theirs[0] + theirs[2] else math.nan, nan_ok=True
        )
