"""Arithmetic of the benchmarks, on rows and volumes made by hand."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))  # a bare `pytest` does not search the root

from benchmarks.accuracy import (
    METRICS,
    STAGES,
    UNSEEN,
    Alone,
    errors,
    means,
    measured,
    score,
    second_table,
    table,
    trust,
    trusted,
    volume_ratio,
    within,
)
from benchmarks.simulate import MOMENT, Cost, cost, fixed, report
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.simulator.series import simulate_frame

NAN = math.nan


def row(n_ref, n_pred, *values):
    return {"n_ref": n_ref, "n_pred": n_pred, **dict(zip(METRICS, values, strict=True))}


ROWS = [
    row(1, 1, 0.5, 0.25, 0.75, 1.0),
    row(1, 0, 0.0, 0.0, NAN, 0.0),
    row(16, 18, 1.0, 0.5, 0.25, 0.5),
    row(17, 17, 0.75, 0.75, 0.5, 1.0),
    row(61, 59, 0.5, 0.5, 0.5, 0.5),
    row(0, 2, 0.0, NAN, 0.0, 0.0),
]


def test_means_are_over_the_volumes_where_a_metric_is_defined():
    assert means(ROWS[:2]) == [0.25, 0.125, 0.75, 0.5, -0.5, 0.5]
    assert np.isnan(means([])).all()


def test_the_table_gives_every_stages_means_and_names_what_it_leaves_out():
    lines = table(ROWS).splitlines()
    assert len(lines) == 2 + len(STAGES) + 2
    assert "| 1 | 2 | 0.250 | 0.125 | 0.750 | 0.500 | -0.50 | 0.50 |" in lines
    assert "| 2 | 0 |  |  |  |  |  |  |" in lines
    assert "| 9-16 | 1 | 1.000 | 0.500 | 0.250 | 0.500 | +2.00 | 0.00 |" in lines
    assert "| up to 16 | 3 | 0.500 | 0.250 | 0.500 | 0.500 | +0.33 | 0.33 |" in lines
    assert "| up to 60 | 4 | 0.562 | 0.375 | 0.500 | 0.625 | +0.25 | 0.50 |" in lines
    assert "| over 60 | 1 | 0.500 | 0.500 | 0.500 | 0.500 | -2.00 | 0.00 |" in lines
    assert lines[-1] == "Volumes without a nucleus in view, left out: 1; nuclei found there: 2."


def test_every_count_belongs_to_one_stage_besides_the_sums():
    stages = [(low, high) for name, (low, high) in STAGES.items() if not name.startswith("up")]
    assert all(sum(low <= count <= high for low, high in stages) == 1 for count in range(1, 200))


def test_one_of_two_nuclei_found_is_scored_in_closed_form():
    true = np.zeros((4, 4, 8), np.uint16)
    true[:2, :2, :2], true[2:, 2:, 6:] = 1, 2
    found = np.where(true == 1, 7, 0)
    scores = score(true, found, spacing=(2.0, 1.0, 1.0))
    assert scores == row(2, 1, 0.5, 0.5, 1.0, pytest.approx(2 / 3))


def test_what_is_right_is_told_apart_by_confidence():
    true = np.repeat([1, 2, 3], 4)[None, None]
    found = np.array([1, 1, 1, 0, 2, 0, 0, 0, 3, 3, 4, 4])[None, None]
    rows = [trusted(overlap_table(true, found), np.array([True, True, False, False])) | {"n_pred": 4}]
    assert rows[0] == {"n_unsure": 2, "n_unsure_right": 1, "n_sure_right": 2, "n_pred": 4}
    assert trust(rows) == (
        "Of 2 nuclei of a confidence below 0.75, 50% overlap a true one by IoU 0.5 or more; of 2 others 100%."
    )


def test_the_volumes_of_matched_nuclei_alone_are_compared():
    true = np.repeat([1, 2, 3], 4)[None, None]
    found = np.array([0, 0, 0, 1, 2, 2, 2, 0, 3, 3, 3, 3])[None, None]
    assert volume_ratio(overlap_table(true, found)) == 7 / 8
    assert np.isnan(volume_ratio(overlap_table(true, 0 * found)))


def test_the_second_table_has_the_median_ratio_and_the_share_near_1():
    ratios = zip((0.89, 0.91, 1.0, 1.2, np.nan), (0.5, 0.6, 0.7, 0.8, 0.9), strict=True)
    rows = [{"n_ref": 2, "volume_ratio": r, **{f"nsn_{name}": v for name in METRICS}} for r, v in ratios]
    line = next(line for line in second_table(rows).split("\n") if line.startswith("| 2 |"))
    assert line == "| 2 | 0.955 | 0.500 | 0.700 | 0.700 | 0.700 | 0.700 |"


def test_volumes_are_held_against_their_error():
    true = np.repeat([1, 2, 3], 4)[None, None]
    found = np.array([0, 1, 1, 1, 0, 0, 2, 2, 3, 3, 3, 3])[None, None]
    counts = within(overlap_table(true, found), np.array([1.0, 1.0, 0.0]))
    assert counts == {"n_matched": 3, "n_within_1_sd": 2, "n_within_2_sd": 3}
    assert "for 67% of 3 matched nuclei, within two for 100%" in errors([counts])


@pytest.fixture(scope="module")
def coarse():
    return fixed().changed({"view": {"lateral_um": 3.0, "anisotropy": 1.0}})


def test_a_segmenter_that_finds_the_truth_scores_1_on_the_volume_it_was_given(coarse):
    frame = simulate_frame((UNSEEN, 3, 4), settings=coarse)

    def segment(volume):
        np.testing.assert_array_equal(volume.array, frame.image)
        assert volume.spacing == frame.spacing
        confidence = np.array([0.7] + [0.8] * (frame.instances.max() - 1))
        table = {"confidence": confidence, "volume_sd_um3": 0 * confidence}
        return SimpleNamespace(labels=frame.instances, table=table)

    alone = Alone(lambda *_: None)
    alone.labels = np.where(frame.instances == 1, 0, frame.instances)
    found = measured(3, 4, coarse, segment, alone)
    assert [found[name] for name in METRICS] == [1, 1, 1, 1]
    assert found["volume_ratio"] == 1
    assert found["nsn_seg"] == pytest.approx(1 - 1 / frame.instances.max())
    assert found["n_ref"] == found["n_pred"] == frame.instances.max()
    assert (found["n_unsure"], found["n_unsure_right"]) == (1, 1)
    assert found["n_sure_right"] == frame.instances.max() - 1
    assert found["kind"] == "embryo"
    assert found["photons"] == coarse.draw((UNSEEN, 3, 4)).camera.photons


def test_the_timed_volume_has_32_nuclei_in_the_field_stated():
    view = fixed().draw((0,)).view
    assert view.spacing == pytest.approx((1.75, 0.8, 0.8))
    assert (view.first, view.last) == (MOMENT, MOMENT)
    frame = simulate_frame(0, settings=fixed())
    assert frame.image.shape == (51, 121, 121)
    assert frame.instances.max() == 32


def test_a_volumes_cost_is_told_apart_and_reported_against_the_target(coarse):
    assert cost(0, coarse).growth > 0
    text = report([Cost(0.125, 0.25), Cost(0.125, 0.125), Cost(0.25, 0.5)])
    assert text.startswith("seconds of a volume with 32 nuclei: 0.375 (0.250 to 0.750), at most 0.3: FAILS")
    assert text.split("\n")[1:] == [
        "  growth 0.125",
        "  rendering and camera 0.250",
        "  ratio to target 1.25",
    ]
