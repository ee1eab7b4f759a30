"""Scores of found objects by hand: per volume, then their mean."""

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine

from qcanet_monai.errors import InputError
from qcanet_monai.nn.metatensor import as_metatensor
from qcanet_monai.training.scores import RADIUS_UM, DetectionF, ObjectScore, PairSeg

SPACING = (2.0, 1.0, 1.0)


def volume(*boxes, spacing=SPACING):
    """A label image (1, 4, 8, 12) with boxes (z, y, x) as labels 1, 2 and so on."""
    labels = np.zeros((4, 8, 12), np.int32)
    for number, box in enumerate(boxes, 1):
        labels[box] = number
    return as_metatensor(labels, spacing)


LEFT, RIGHT = np.s_[0:2, 0:4, 0:4], np.s_[2:4, 4:8, 8:12]
LARGER = np.s_[0:2, 0:4, 0:8]  # twice the left box
TOO_FAR = np.s_[0:2, 0:4, 4:8]  # four voxels beside it
NEAR = np.s_[0:2, 0:4, 3:7]  # three voxels beside it


def score(name, *pairs):
    metric = ObjectScore(score=name)
    for found, true in pairs:
        metric.update(([found], [true]))
    return metric.compute()


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("seg", (LARGER, RIGHT), (0.5 + 1) / 2),
        ("seg", (TOO_FAR, RIGHT), (0 + 1) / 2),
        ("seg", (NEAR, RIGHT), (0 + 1) / 2),  # a quarter of the left box: no match
        ("cell_jaccard", (LARGER, RIGHT), (0.5 + 1) / 2),
        ("cell_jaccard", (NEAR, RIGHT), (1 / 7 + 1) / 2),
        ("dice", (LARGER, RIGHT), 2 * 64 / (64 + 96)),
        ("dice", (LEFT,), 2 * 32 / (64 + 32)),
        ("detection_f", (NEAR, RIGHT), 1),
        ("detection_f", (TOO_FAR, RIGHT), 1 / 2),
        ("detection_f", (LEFT,), 2 / 3),
        ("detection_f", (), 0),
        ("seg", (), 0),
    ],
)
def test_a_volumes_score_is_that_of_its_objects(name, found, expected):
    assert score(name, (volume(*found), volume(LEFT, RIGHT))) == pytest.approx(expected)


def test_a_detection_is_right_within_a_radius_in_um():
    assert RADIUS_UM == 3.28
    for width, expected in ((1.0, 1.0), (1.05, 1.0), (1.1, 0.0)):  # three voxels: 3, 3.15 and 3.3 µm
        spacing = (2.0, 1.0, width)
        pair = (volume(NEAR, spacing=(9.0, 9.0, 9.0)), volume(LEFT, spacing=spacing))
        assert score("detection_f", pair) == expected


def test_centres_of_all_volumes_are_counted_together():
    metric = DetectionF(min_size=3)
    assert np.isnan(metric.compute())
    speck = np.s_[3, 0, 0]  # below min_size in a prediction, a centre in a reference
    pairs = [
        (volume(NEAR, RIGHT, speck), volume(LEFT, RIGHT)),  # two matches
        (volume(TOO_FAR), volume(LEFT, speck)),  # none
        (volume(), volume(RIGHT)),
    ]
    for found, true in pairs:
        metric.update(([(found > 0).float()], [(true > 0).float()]))
    assert metric.compute() == pytest.approx(2 * 2 / (5 + 3))
    metric.reset()
    metric.update(([volume(LEFT).float()], [volume(LEFT).float()]))
    assert metric.compute() == 1


def test_peaks_of_a_depth_are_compared_with_touching_nuclei():
    true = volume(LEFT, TOO_FAR)  # they touch
    depth = 0.6 * (true > 0).float()
    depth[0, 0:2, 1:3, 1:3] = depth[0, 0:2, 1:3, 5:7] = 0.9
    for height, expected in ((0.0, 2 / 3), (0.1, 1.0), (0.5, 2 / 3)):
        metric = DetectionF(threshold=0.3, height=height)
        metric.update(([depth], [true]))
        assert metric.compute() == pytest.approx(expected)


def test_volumes_count_alike_however_they_come():
    good = (volume(LEFT, RIGHT), volume(LEFT, RIGHT))
    bad = (volume(), volume(LEFT))
    assert score("seg", good, bad, good, bad) == 0.5
    metric = ObjectScore(score="seg")
    metric.update(tuple(zip(good, bad, good, strict=True)))
    assert metric.compute() == pytest.approx(2 / 3)


def test_a_volume_without_the_score_does_not_count():
    nothing = (volume(), volume())
    found = (volume(LEFT), volume())
    good = (volume(LEFT), volume(LEFT))
    assert score("seg", good, found, nothing) == 1
    assert score("detection_f", good, found, nothing) == 0.5  # objects in an empty reference are wrong
    assert score("dice", good, found, nothing) == 0.5
    for name in ("seg", "detection_f", "cell_jaccard", "dice"):
        assert np.isnan(score(name, nothing))
        assert np.isnan(ObjectScore(score=name).compute())


def test_each_epoch_begins_anew():
    metric = ObjectScore(score="seg")
    metric.update(([volume(LEFT)], [volume(LEFT)]))
    metric.reset()
    metric.update(([volume()], [volume(LEFT)]))
    assert metric.compute() == 0


def test_the_metric_reads_what_an_evaluator_hands_out():
    engine = Engine(lambda _engine, batch: batch)
    metric = ObjectScore(score="seg", output_transform=from_engine(["pred", "label"]))
    metric.attach(engine, "seg")
    good = {"pred": volume(LEFT).as_tensor().float(), "label": volume(LEFT)}
    bad = {"pred": torch.zeros(1, 4, 8, 12), "label": volume(LEFT)}
    assert engine.run([[good], [bad], [bad, bad]]).metrics["seg"] == 0.25


def test_an_unknown_score_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="detection_f, seg, cell_jaccard, dice, got 'iou'"):
        ObjectScore(score="iou")


def logits(mask, centres, p=0.9):
    """Logits (4, Z, Y, X): probability `p` in the masks, 1 - p elsewhere."""
    high = float(np.log(p / (1 - p)))
    both = [np.where(one, high, -high) / 2 for one in (mask, centres)]
    return torch.from_numpy(np.stack([part for one in both for part in (-one, one)]).astype(np.float32))


def pair_seg(*volumes):
    metric = PairSeg()
    for found, true in volumes:
        metric.update(([found], [true]))
    return metric.compute()


def centres_of(*voxels):
    mask = np.zeros((4, 8, 12), bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def test_a_pair_scores_the_seg_of_its_watershed():
    true = volume(LEFT, RIGHT)
    mask = np.asarray(true[0]) > 0
    assert pair_seg((logits(mask, centres_of((1, 2, 2), (3, 6, 10))), true)) == 1
    # a nucleus without a centre is dropped; a centre in the background makes none
    assert pair_seg((logits(mask, centres_of((1, 2, 2))), true)) == 0.5
    assert pair_seg((logits(mask, centres_of((1, 2, 2), (3, 6, 10), (3, 1, 1))), true)) == 1


def test_a_pair_is_judged_at_the_best_thresholds_for_all_volumes_together():
    true = volume(LEFT, RIGHT)
    mask, centres = np.asarray(true[0]) > 0, centres_of((1, 2, 2), (3, 6, 10))
    low, high = logits(mask, centres, p=0.6), logits(~mask, centres)
    assert pair_seg((low, true)) == 1  # missed at 0.65 and 0.7
    assert pair_seg((low, true), (high, true)) == pytest.approx((1 + pair_seg((high, true))) / 2)
    assert np.isnan(pair_seg((low, volume())))
