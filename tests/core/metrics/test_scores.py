import importlib.util
import itertools
import math

import numpy as np
import pytest
from helpers import SHARED, ball
from scipy.optimize import linear_sum_assignment
from skimage import metrics as skimage_metrics

from qcanet_monai.core.metrics import scores as metrics
from qcanet_monai.core.metrics.detection import matched_ious
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.errors import InputError

# Prediction 5 covers 3 of the 4 voxels of reference 1; 6 and 7 halve the 4 voxels of reference 2;
# prediction 8 lies on background.
REFERENCE = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0])
PREDICTION = np.array([5, 5, 5, 5, 0, 6, 6, 7, 7, 0, 8, 8])


@pytest.fixture
def hand():
    return overlap_table(REFERENCE, PREDICTION)


@pytest.fixture
def score_oracle():
    path = SHARED / "score.py"
    if not path.is_file():
        pytest.skip("the plain oracle ../shared/score.py is absent")
    pytest.importorskip("tifffile")
    spec = importlib.util.spec_from_file_location("score_oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_labels(seed, shape=(5, 8, 9), n_labels=6):
    """Make blocky labels with gaps; the prediction is shifted, noisy and merges two."""
    rng = np.random.default_rng(seed)
    values = np.append(rng.choice(np.arange(1, 60), n_labels, replace=False), 0).astype(np.uint16)
    coarse = rng.choice(values, [-(-n // 3) for n in shape])
    reference = np.kron(coarse, np.ones((3, 3, 3), np.uint16))[tuple(map(slice, shape))]
    prediction = np.roll(reference, 1, axis=2)
    prediction[prediction == values[0]] = values[1]
    noise = rng.random(shape) < 0.1
    prediction[noise] = rng.choice(values, int(noise.sum()))
    return reference, prediction * 2


def slow_scores(reference, prediction):
    """Compute object metrics by loops over whole-image masks, as an oracle."""
    refs = [reference == r for r in np.unique(reference) if r]
    preds = [prediction == p for p in np.unique(prediction) if p]
    iou = np.array([[(r & p).sum() / (r | p).sum() for p in preds] for r in refs])
    most = np.array([[(r & p).sum() / r.sum() > 0.5 for p in preds] for r in refs])
    best = iou.max(axis=1)
    chosen = [preds[k] for k in iou.argmax(axis=1)]
    sizes = np.array([r.sum() for r in refs])
    cell_dice = np.array([2 * (r & p).sum() / (r.sum() + p.sum()) for r, p in zip(refs, chosen, strict=True)])
    volume_errors = [abs(int(p.sum()) - int(r.sum())) / r.sum() for r, p in zip(refs, chosen, strict=True)]
    return {
        "n_ref": len(refs),
        "n_pred": len(preds),
        "iou": ((reference > 0) & (prediction > 0)).sum() / ((reference > 0) | (prediction > 0)).sum(),
        "seg": (iou * most).max(axis=1).mean(),
        "mucov": (iou * most).max(axis=0).mean(),
        "mucov_reference": best.mean(),
        "mwcov_reference": np.average(best, weights=sizes),
        "cell_jaccard_mean": best.mean(),
        "cell_dice_mean": cell_dice.mean(),
        "cell_jaccard_share_above_0.5": (best > 0.5).mean(),
        "cell_dice_share_above_0.7": (cell_dice > 0.7).mean(),
        "cell_relative_volume_error_mean": np.mean(volume_errors),
    }


def best_assignment_slowly(gain):
    """Find the largest (matches, sum of gains) by trying all one-to-one assignments."""
    if gain.shape[0] > gain.shape[1]:
        gain = gain.T
    rows = np.arange(gain.shape[0])
    tried = (gain[rows, list(p)] for p in itertools.permutations(range(gain.shape[1]), gain.shape[0]))
    return max((int((g > 0).sum()), round(float(g.sum()), 9)) for g in tried)


# --- closed forms ---------------------------------------------------------------------------------


def test_foreground_metrics_of_the_hand_counted_image(hand):
    assert metrics.iou(hand) == 7 / 11
    assert metrics.dice(hand) == 14 / 18
    assert metrics.relative_volume_error(hand) == 2 / 8


def test_seg_counts_an_object_cut_into_exact_halves_as_missed(hand):
    assert metrics.seg_per_object(hand).tolist() == [3 / 5, 0]
    assert metrics.seg(hand) == 3 / 10


def test_mucov_averages_over_predictions_and_coverage_over_references(hand):
    assert metrics.mucov(hand) == pytest.approx((3 / 5) / 4)
    assert metrics.mucov_reference(hand) == pytest.approx((3 / 5 + 1 / 2) / 2)
    assert metrics.mwcov_reference(hand) == pytest.approx((3 / 5 * 4 + 1 / 2 * 4) / 8)


def test_weighted_coverage_weighs_by_reference_size():
    table = overlap_table([1, 2, 2, 2], [1, 0, 0, 3])
    assert metrics.mucov_reference(table) == pytest.approx((1 + 1 / 3) / 2)
    assert metrics.mwcov_reference(table) == pytest.approx((1 * 1 + 1 / 3 * 3) / 4)


def test_pooled_seg_weighs_objects_and_mean_seg_weighs_volumes(hand):
    perfect = overlap_table([1, 2, 3, 4], [1, 2, 3, 4])
    assert metrics.seg_pooled([hand, perfect]) == pytest.approx((0.6 + 0 + 4) / 6)
    assert metrics.seg_mean([hand, perfect]) == pytest.approx((0.3 + 1) / 2)


def test_cell_scores_take_the_best_prediction_of_each_reference(hand):
    cells = metrics.cell_scores(hand)
    assert cells.label.tolist() == [1, 2]
    assert cells.jaccard.tolist() == [3 / 5, 1 / 2]
    assert cells.dice.tolist() == [6 / 8, 4 / 6]
    assert cells.relative_volume_error.tolist() == [0, 1 / 2]


def test_a_missed_cell_scores_zero_and_errs_by_its_whole_volume():
    cells = metrics.cell_scores(overlap_table([1, 1, 0, 2], [0, 0, 0, 9]))
    assert cells.jaccard.tolist() == [0, 1]
    assert cells.relative_volume_error.tolist() == [1, 0]


def test_shares_of_cells_are_strictly_above_their_level():
    scores = metrics.evaluate([1, 1, 2, 2], [1, 0, 2, 2])
    assert scores["cell_jaccard_share_above_0.5"] == 0.5
    assert scores["cell_dice_share_above_0.5"] == 1
    assert scores["cell_dice_share_above_0.7"] == 0.5


def test_average_precision_and_panoptic_quality_of_the_hand_counted_image(hand):
    # Matches: 1-5 at 0.6, and either 2-6 or 2-7 at exactly 0.5: two true and two false positives.
    assert matched_ious(hand, 0.5).tolist() == [0.6, 0.5]
    assert metrics.average_precision(hand, 0.5) == 2 / 4
    assert metrics.average_precision(hand, 0.6) == 1 / 5
    assert metrics.average_precision(hand, 0.61) == 0
    quality = metrics.panoptic_quality(hand, 0.5)
    assert quality.pq == pytest.approx(1.1 / 3)
    assert quality.sq == pytest.approx(0.55)
    assert quality.rq == pytest.approx(2 / 3)


def test_every_score_of_the_hand_counted_image_stands_under_its_name(hand):
    adapted = metrics.adapted_rand_error(hand)
    everywhere = metrics.variation_of_information(hand)
    foreground = metrics.variation_of_information(hand, foreground_only=True)
    assert metrics.evaluate(REFERENCE, PREDICTION) == pytest.approx(
        {
            "n_ref": 2,
            "n_pred": 4,
            "count_difference": 2,
            "iou": 7 / 11,
            "dice": 14 / 18,
            "seg": 3 / 10,
            "mucov": 3 / 20,
            "mucov_reference": 11 / 20,
            "mwcov_reference": 11 / 20,
            "average_precision_0.5": 2 / 4,
            "average_precision_0.75": 0,
            # 2 of 4 at 0.5, 1 of 5 at 0.55 and at 0.6, none at the seven thresholds above
            "average_precision_mean_0.5_to_0.95": (2 / 4 + 1 / 5 + 1 / 5) / 10,
            "panoptic_quality_0.5": 1.1 / 3,
            "segmentation_quality_0.5": 0.55,
            "recognition_quality_0.5": 2 / 3,
            "panoptic_quality_0.75": 0,
            "segmentation_quality_0.75": math.nan,
            "recognition_quality_0.75": 0,
            "rand_error": metrics.rand_error(hand),
            "adapted_rand_error": adapted.error,
            "adapted_rand_precision": adapted.precision,
            "adapted_rand_recall": adapted.recall,
            "voi_split_bits": everywhere.split_bits,
            "voi_merge_bits": everywhere.merge_bits,
            "voi_split_foreground_bits": foreground.split_bits,
            "voi_merge_foreground_bits": foreground.merge_bits,
            "cell_jaccard_mean": 11 / 20,
            "cell_jaccard_share_above_0.5": 1 / 2,
            "cell_jaccard_share_above_0.7": 0,
            "cell_dice_mean": (6 / 8 + 4 / 6) / 2,
            "cell_dice_share_above_0.5": 1,
            "cell_dice_share_above_0.7": 1 / 2,
            "cell_relative_volume_error_mean": 1 / 4,
            "relative_volume_error": 2 / 8,
        },
        nan_ok=True,
    )


def test_a_table_at_hand_is_not_made_again(hand, monkeypatch):
    monkeypatch.setattr(metrics, "overlap_table", None)
    assert metrics.evaluate(REFERENCE, PREDICTION, overlap=hand)["iou"] == 7 / 11


def test_low_thresholds_match_one_to_one_and_prefer_more_matches():
    # Objects 1 and 2 both overlap prediction 5 best; both match only if 1 takes 6.
    reference = np.array([1] * 10 + [2] * 10)
    prediction = np.array([6] * 3 + [5] * 15 + [0] * 2)
    table = overlap_table(reference, prediction)
    assert sorted(matched_ious(table, 0.2).tolist()) == [3 / 10, 8 / 17]
    assert metrics.average_precision(table, 0.2) == 1


def test_rand_error_is_the_share_of_disagreeing_voxel_pairs():
    # Of the 6 pairs, only (0, 1) is joined in one and separate in the other; then the 4 pairs across.
    assert metrics.rand_error(overlap_table([1, 1, 2, 2], [3, 4, 5, 5])) == 1 / 6
    assert metrics.rand_error(overlap_table([1, 1, 2, 2], [3, 3, 3, 3])) == 4 / 6


def test_merging_lowers_adapted_rand_precision_and_splitting_recall():
    merged = metrics.adapted_rand_error(overlap_table([1, 1, 2, 2], [3, 3, 3, 3]))
    assert (merged.precision, merged.recall) == (4 / 12, 1)
    assert merged.error == 1 - 8 / 16
    split = metrics.adapted_rand_error(overlap_table([3, 3, 3, 3], [1, 1, 2, 2]))
    assert (split.precision, split.recall) == (1, 4 / 12)


def test_halving_an_object_splits_by_one_bit_and_the_reverse_merges_by_one():
    assert metrics.variation_of_information(overlap_table([3, 3, 3, 3], [1, 1, 2, 2])) == (1, 0)
    assert metrics.variation_of_information(overlap_table([1, 1, 2, 2], [3, 3, 3, 3])) == (0, 1)


def test_foreground_entropies_leave_out_voxels_that_are_background_in_either():
    table = overlap_table([3, 3, 3, 3, 0, 0, 3], [1, 1, 2, 2, 0, 9, 0])
    assert metrics.variation_of_information(table, foreground_only=True) == (1, 0)


def test_centroids_are_in_micrometres_and_ordered_by_label():
    labels = np.zeros((4, 5, 6), np.uint16)
    labels[1:3, 2, 2] = 40
    labels[0, 0, 3:6] = 7
    found = metrics.centroids_um(labels, spacing=(2.0, 0.5, 1.0))
    assert found.tolist() == [[0, 0, 4], [3, 1, 2]]


def test_detection_matches_one_to_one_within_the_radius():
    reference = [[0, 0, 0], [0, 0, 10], [0, 0, 20]]
    predicted = [[0, 0, 1], [0, 0, 2], [0, 3.28, 10], [0, 0, 16]]
    found = metrics.detection_scores(reference, predicted)
    assert found.n_matched == 2
    assert (found.precision, found.recall, found.f) == (2 / 4, 2 / 3, 4 / 7)


def test_detection_prefers_more_matches_to_nearer_ones():
    assert metrics.detection_scores([[0.0], [2.0]], [[1.9], [4.0]], radius_um=2.0).n_matched == 2


def test_detections_at_the_very_place_match():
    points = np.arange(12.0).reshape(4, 3)
    assert metrics.detection_scores(points, points[::-1]) == (1, 1, 1, 4)


def test_hausdorff_distance_of_shifted_boxes_is_the_shift_in_micrometres():
    reference, prediction = np.zeros((2, 9, 9, 9), np.uint8)
    reference[2:5, 2:5, 2:5] = 1
    prediction[3:6, 2:5, 4:7] = 7
    assert metrics.hausdorff_um(reference, prediction, spacing=(1.5, 1, 1)) == 2.5


def test_hausdorff_distance_is_between_surfaces_and_so_sees_a_hole():
    solid = np.ones((7, 7, 7), bool)
    hollow = solid.copy()
    hollow[3, 3, 3] = False
    assert metrics.hausdorff_um(solid, hollow, spacing=(1, 1, 1)) == 2


# --- fast against slow, and against other packages ------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_object_metrics_equal_a_slow_loop_over_masks(seed):
    reference, prediction = random_labels(seed)
    scores = metrics.evaluate(reference, prediction)
    for name, expected in slow_scores(reference, prediction).items():
        assert scores[name] == pytest.approx(expected), name


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7])
def test_matching_equals_trying_every_assignment(seed, threshold):
    reference, prediction = random_labels(seed, n_labels=4 + seed % 3)
    pairs = overlap_table(reference, prediction).pairs
    iou = np.zeros((pairs.reference.max() + 1, pairs.predicted.max() + 1))
    iou[pairs.reference, pairs.predicted] = np.where(pairs.iou >= threshold, pairs.iou, 0)
    ious = matched_ious(overlap_table(reference, prediction), threshold)
    assert (len(ious), round(float(ious.sum()), 9)) == best_assignment_slowly(iou)


@pytest.mark.parametrize("seed", range(5))
def test_detection_equals_a_dense_assignment_on_random_points(seed):
    rng = np.random.default_rng(seed)
    reference, predicted = rng.uniform(0, 20, (40, 3)), rng.uniform(0, 20, (30 + 5 * seed, 3))
    near = np.linalg.norm(reference[:, None] - predicted, axis=-1) <= 3.28
    expected = near[linear_sum_assignment(~near)].sum()
    assert metrics.detection_scores(reference, predicted).n_matched == expected


@pytest.mark.parametrize("seed", range(5))
def test_partition_metrics_equal_those_of_scikit_image(seed):
    reference, prediction = random_labels(seed)
    table = overlap_table(reference, prediction)
    error, precision, recall = skimage_metrics.adapted_rand_error(reference, prediction)
    ours = metrics.adapted_rand_error(table)
    assert ours.error == pytest.approx(error)
    # scikit-image divides its precision by the reference's pairs, not the test's.
    assert sorted(ours[1:]) == pytest.approx(sorted([precision, recall]))
    expected = skimage_metrics.variation_of_information(reference, prediction)
    assert metrics.variation_of_information(table) == pytest.approx(tuple(expected))


def test_rand_error_equals_counting_every_pair_of_voxels():
    reference, prediction = (labels.ravel()[:80] for labels in random_labels(1))
    pairs = list(itertools.combinations(range(80), 2))
    apart = sum((reference[i] == reference[j]) != (prediction[i] == prediction[j]) for i, j in pairs)
    assert metrics.rand_error(overlap_table(reference, prediction)) == pytest.approx(apart / len(pairs))


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_those_of_the_plain_oracle(score_oracle, seed):
    reference, prediction = random_labels(seed)
    expected = score_oracle.scores(prediction, reference)
    scores = metrics.evaluate(reference, prediction)
    for theirs, ours in {
        "IoU": "iou",
        "SEG": "seg",
        "MUCov": "mucov",
        "n_pred": "n_pred",
        "n_ref": "n_ref",
    }.items():
        assert scores[ours] == pytest.approx(expected[theirs]), ours


@pytest.mark.parametrize("empty", ["reference", "prediction", "both"])
def test_empty_images_score_as_the_plain_oracle_says(score_oracle, empty):
    reference = REFERENCE * (empty == "prediction")
    prediction = PREDICTION * (empty == "reference")
    expected = score_oracle.scores(prediction, reference)
    table = overlap_table(reference, prediction)
    ours = [metrics.iou(table), metrics.seg(table), metrics.mucov(table)]
    assert ours == pytest.approx([expected[name] for name in ("IoU", "SEG", "MUCov")], nan_ok=True)


def test_sixteen_nuclei_found_too_small_have_their_common_iou_and_are_all_detected():
    spacing, shape = (1.75, 0.8, 0.8), (24, 44, 40)
    places = itertools.product((10.5, 31.5), (8.0, 28.0), (4.8, 12.0, 20.0, 27.2))
    reference, prediction = np.zeros((2, *shape), np.uint8)
    for number, centre in enumerate(places, 1):
        reference[ball(shape, centre, 3.4, spacing)] = number
        prediction[ball(shape, centre, 2.9, spacing)] = number
    scores = metrics.evaluate(reference, prediction, spacing=spacing)
    common = np.bincount(prediction.ravel())[1] / np.bincount(reference.ravel())[1]
    assert 0.5 < common < 0.75
    assert [scores[name] for name in ("iou", "seg", "mucov")] == pytest.approx([common] * 3)
    assert (scores["n_pred"], scores["n_ref"], scores["count_difference"]) == (16, 16, 0)
    assert scores["detection_f_3.28um"] == 1
    assert [name for name, value in scores.items() if math.isnan(value)] == ["segmentation_quality_0.75"]


def test_the_authors_output_of_the_16_cell_embryo_keeps_its_published_scores(score_oracle):
    folder = SHARED / "data" / "qcanet_16cell"
    if not folder.is_dir():
        pytest.skip("the 16-cell example ../shared/data/qcanet_16cell is absent")
    prediction = score_oracle.tifffile.imread(folder / "authors_output.tif")
    reference = score_oracle.instances_from_masks(folder)
    scores = metrics.evaluate(reference, prediction, spacing=(1.75, 0.8, 0.8))
    published = {"iou": 0.739, "seg": 0.736, "mucov": 0.736, "n_pred": 16, "n_ref": 16, "count_difference": 0}
    assert {name: round(scores[name], 3) for name in published} == published
    assert scores["detection_f_3.28um"] == 1
    assert all(math.isfinite(value) for value in scores.values())


# --- perfect, undefined and invalid inputs --------------------------------------------------------


def test_a_perfect_prediction_is_perfect_whatever_its_labels():
    reference, _ = random_labels(4)
    renamed = np.where(reference, 200 - reference, 0)
    scores = metrics.evaluate(reference, renamed, spacing=(2, 1, 1))
    errors = {name for name in scores if "error" in name or name.startswith(("voi", "hausdorff", "count_"))}
    assert {scores[name] for name in errors} == {0.0}
    assert {scores[name] for name in scores.keys() - errors - {"n_ref", "n_pred"}} == {1.0}


def test_metrics_do_not_depend_on_the_order_of_labels():
    reference, prediction = random_labels(5)
    before = metrics.evaluate(reference, prediction, spacing=(2, 1, 1))
    after = metrics.evaluate(np.where(reference, 99 - reference, 0), prediction, spacing=(2, 1, 1))
    assert after == pytest.approx(before, nan_ok=True)


def nan_names(scores):
    return {name for name, value in scores.items() if math.isnan(value)}


def test_without_reference_objects_what_is_relative_to_them_is_undefined():
    scores = metrics.evaluate(np.zeros((2, 2, 3), int), np.ones((2, 2, 3), int), spacing=(1, 1, 1))
    undefined = {"seg", "mucov_reference", "mwcov_reference", "relative_volume_error", "hausdorff_um"}
    undefined |= {name for name in scores if name.startswith(("cell_", "adapted_rand_", "segmentation_"))}
    undefined |= {"detection_recall_3.28um", "voi_split_foreground_bits", "voi_merge_foreground_bits"}
    assert nan_names(scores) == undefined
    assert (scores["iou"], scores["mucov"], scores["detection_precision_3.28um"]) == (0, 0, 0)
    assert scores["count_difference"] == 1


def test_without_predictions_every_reference_is_missed_and_precision_undefined():
    scores = metrics.evaluate(np.ones((2, 2, 3), int), np.zeros((2, 2, 3), int), spacing=(1, 1, 1))
    undefined = {
        name
        for name in scores
        if name.startswith(("segmentation_", "hausdorff_", "voi_split_f", "voi_merge_f"))
    }
    assert nan_names(scores) == undefined | {"mucov", "detection_precision_3.28um"}
    assert (scores["seg"], scores["average_precision_0.5"], scores["panoptic_quality_0.5"]) == (0, 0, 0)
    assert (scores["relative_volume_error"], scores["detection_f_3.28um"]) == (1, 0)


def test_two_empty_images_agree_on_background_and_leave_the_rest_undefined():
    scores = metrics.evaluate(np.zeros((2, 2, 3), int), np.zeros((2, 2, 3), int), spacing=(1, 1, 1))
    defined = {"n_ref", "n_pred", "count_difference", "rand_error", "voi_split_bits", "voi_merge_bits"}
    assert scores.keys() - nan_names(scores) == defined
    assert {scores[name] for name in defined} == {0.0}


def test_seg_of_a_series_leaves_out_volumes_without_objects(hand):
    empty = overlap_table([0, 0], [0, 1])
    assert metrics.seg_mean([hand, empty]) == metrics.seg_pooled([hand, empty]) == metrics.seg(hand)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("aggregate", [metrics.seg_mean, metrics.seg_pooled])
def test_seg_of_no_objects_at_all_is_undefined(aggregate):
    assert math.isnan(aggregate([]))
    assert math.isnan(aggregate([overlap_table([0, 0], [0, 1])]))


def test_partitions_of_too_few_voxels_are_undefined():
    one = overlap_table([1], [1])
    assert math.isnan(metrics.rand_error(one))
    assert all(map(math.isnan, metrics.adapted_rand_error(one)))
    none = overlap_table(np.zeros(0, int), np.zeros(0, int))
    assert all(map(math.isnan, metrics.variation_of_information(none)))


def test_micrometre_metrics_appear_only_with_a_spacing_and_name_their_radius():
    assert not [name for name in metrics.evaluate(REFERENCE, PREDICTION) if name.endswith("um")]
    scores = metrics.evaluate(REFERENCE, PREDICTION, spacing=(0.5,), radius_um=2)
    micrometres = {"hausdorff_um", *(f"detection_{name}_2um" for name in ("precision", "recall", "f"))}
    assert {name for name in scores if name.endswith("um")} == micrometres


@pytest.mark.parametrize(("radius_um", "found"), [(2.9, 0), (3.0, 1)])
def test_detections_are_matched_within_the_radius_given(radius_um, found):
    scores = metrics.evaluate([1, 0, 0, 0], [0, 0, 0, 5], spacing=(1.0,), radius_um=radius_um)
    assert scores[f"detection_f_{radius_um:g}um"] == found


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, float("nan")), 1.0])
def test_a_spacing_that_is_not_one_size_per_axis_is_an_error(spacing):
    with pytest.raises(InputError, match="spacing must be 3 positive voxel sizes"):
        metrics.evaluate(np.ones((2, 2, 2), int), np.ones((2, 2, 2), int), spacing=spacing)


@pytest.mark.parametrize("radius_um", [0, -1, float("nan"), float("inf")])
def test_a_radius_that_is_no_length_is_an_error(radius_um):
    with pytest.raises(InputError, match="radius_um must be a positive length"):
        metrics.detection_scores([[0, 0, 0]], [[0, 0, 0]], radius_um=radius_um)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.1, float("nan")])
def test_an_iou_threshold_outside_zero_to_one_is_an_error(hand, threshold):
    with pytest.raises(InputError, match="threshold must lie in"):
        metrics.average_precision(hand, threshold)


def test_points_of_unlike_dimension_are_an_error():
    with pytest.raises(InputError, match=r"got shapes \(1, 3\) and \(1, 2\)"):
        metrics.detection_scores([[0, 0, 0]], [[0, 0]])


def test_hausdorff_of_unlike_shapes_is_an_error():
    with pytest.raises(InputError, match="same shape"):
        metrics.hausdorff_um(np.ones((2, 2, 2), int), np.ones((2, 2, 3), int), spacing=(1, 1, 1))
