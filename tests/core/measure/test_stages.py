"""Stages: exact durations of series written by hand."""

import math

import numpy as np
import pytest

from qcanet_monai.core.measure.stages import STAGES, stage_durations, stage_of, synchrony
from qcanet_monai.errors import InputError


def durations(numbers, times=None, interval_h=0.5):
    times = np.arange(len(numbers)) * interval_h if times is None else times
    table = stage_durations(numbers, times, interval_h=interval_h)
    return {
        name: {key: table[key][i].item() for key in table if key != "stage"}
        for i, name in enumerate(table["stage"].tolist())
    }


def test_every_number_of_nuclei_is_of_one_stage():
    assert stage_of(np.arange(8)).tolist() == ["", "1", "2", "3", "4", "5-7", "5-7", "5-7"]
    assert stage_of([8, 9, 15, 16, 17, 31, 32, 500]).tolist() == [
        "8", "9-15", "9-15", "16", "17-31", "17-31", "32+", "32+",
    ]  # fmt: skip


def test_a_stage_lasts_as_long_as_its_frames():
    found = durations([1, 1, 1, 2, 2, 3, 4])
    assert list(found) == list(STAGES)
    assert found["1"] == {"first_h": 0.0, "duration_h": 1.5, "longest_h": 1.5, "reached": 1}
    assert found["2"] == {"first_h": 1.5, "duration_h": 1.0, "longest_h": 1.0, "reached": 1}
    assert found["3"] == {"first_h": 2.5, "duration_h": 0.5, "longest_h": 0.5, "reached": 0}
    assert math.isnan(found["8"].pop("first_h"))
    assert found["8"] == {"duration_h": 0.0, "longest_h": 0.0, "reached": 0}


def test_a_stage_left_and_entered_again_is_reached_only_if_it_lasts():
    found = durations([2, 3, 2, 3, 2, 4, 4])
    assert found["2"] == {"first_h": 0.0, "duration_h": 1.5, "longest_h": 0.5, "reached": 0}
    assert found["4"]["reached"] == 1


def test_six_frames_of_ten_minutes_are_an_hour():
    assert durations([2] * 6 + [4] * 5, interval_h=10 / 60)["2"]["reached"] == 1
    assert durations([2] * 6 + [4] * 5, interval_h=10 / 60)["4"]["reached"] == 0


def test_a_missing_frame_counts_for_no_stage_and_breaks_none():
    found = durations([2, 2, 2, 4], times=[0, 0.5, 1.5, 2.0])
    assert found["2"] == {"first_h": 0.0, "duration_h": 1.5, "longest_h": 1.5, "reached": 1}
    assert found["4"]["first_h"] == 2.0


def test_a_frame_without_nuclei_is_of_no_stage_and_breaks_one():
    assert durations([2, 0, 2])["2"] == {"first_h": 0.0, "duration_h": 1.0, "longest_h": 0.5, "reached": 0}


def test_a_series_without_frames_has_no_stages():
    assert all(row["duration_h"] == 0 for row in durations([]).values())


@pytest.mark.parametrize(("frames", "asynchronous"), [(34, False), (35, True)])
def test_a_three_cell_stage_of_more_than_5_8_hours_marks_asynchrony(frames, asynchronous):
    numbers = [2] * 6 + [3] * frames + [4] * 6
    table = stage_durations(numbers, np.arange(len(numbers)) / 6, interval_h=1 / 6)
    found = synchrony(table)
    assert found.asynchronous is asynchronous
    assert found.three_cell_h == pytest.approx(frames / 6)
    assert found.in_between_share == pytest.approx(frames / (frames + 12))


def test_cells_that_divide_at_once_spend_no_time_in_between():
    numbers = [1, 1, 2, 2, 4, 4, 8, 16, 32]
    assert synchrony(stage_durations(numbers, np.arange(9), interval_h=1)).in_between_share == 0
    assert math.isnan(synchrony(stage_durations([1], [0], interval_h=1)).in_between_share)


@pytest.mark.parametrize(
    ("numbers", "times", "interval"),
    [([1, 2], [0], 1), ([1, 2], [0, 0], 1), ([1], [0], 0), ([1], [0], math.nan), ([[1]], [[0]], 1)],
)
def test_times_that_cannot_be_are_refused(numbers, times, interval):
    with pytest.raises(InputError, match="expected"):
        stage_durations(numbers, times, interval_h=interval)
