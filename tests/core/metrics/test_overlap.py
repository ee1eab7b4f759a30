import numpy as np
import pytest

from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.errors import InputError


def counted_slowly(reference, prediction):
    counts = {}
    for pair in zip(np.ravel(reference).tolist(), np.ravel(prediction).tolist(), strict=True):
        counts[pair] = counts.get(pair, 0) + 1
    return counts


def as_dict(table):
    pairs = zip(table.reference_label.tolist(), table.predicted_label.tolist(), strict=True)
    return dict(zip(pairs, table.n_voxels.tolist(), strict=True))


def test_hand_counted_image_gives_its_pairs_labels_and_sizes():
    table = overlap_table(np.array([[0, 5, 5], [9, 9, 9]]), np.array([[0, 0, 3], [3, 3, 8]]))
    assert as_dict(table) == {(0, 0): 1, (5, 0): 1, (5, 3): 1, (9, 3): 2, (9, 8): 1}
    assert table.reference_labels.tolist() == [5, 9]
    assert table.reference_sizes.tolist() == [2, 3]
    assert table.predicted_labels.tolist() == [3, 8]
    assert table.predicted_sizes.tolist() == [3, 1]
    assert (table.n_ref, table.n_pred) == (2, 2)
    assert (table.n_reference_voxels, table.n_predicted_voxels, table.n_common_voxels) == (5, 4, 4)


def test_object_pairs_carry_positions_and_iou_without_background():
    pairs = overlap_table(np.array([0, 5, 5, 9, 9, 9]), np.array([0, 0, 3, 3, 3, 8])).pairs
    assert pairs.reference.tolist() == [0, 1, 1]
    assert pairs.predicted.tolist() == [0, 0, 1]
    assert pairs.n_voxels.tolist() == [1, 2, 1]
    assert pairs.iou.tolist() == [1 / 4, 2 / 4, 1 / 3]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int16", "int64"])
def test_every_integer_dtype_gives_the_same_table(dtype):
    reference, prediction = np.array([0, 2, 2, 100]), np.array([1, 1, 0, 100])
    expected = counted_slowly(reference, prediction)
    assert as_dict(overlap_table(reference.astype(dtype), prediction.astype(dtype))) == expected


def test_a_mask_is_one_object():
    table = overlap_table(np.array([True, True, False]), np.array([0, 4, 4], np.uint16))
    assert as_dict(table) == {(1, 0): 1, (1, 4): 1, (0, 4): 1}


@pytest.mark.parametrize("largest", [9, 60_000, 2**32 - 1], ids=["counted", "sorted", "ranked"])
def test_fast_table_equals_a_slow_count_on_random_labels_with_gaps(largest):
    rng = np.random.default_rng(largest)
    values = np.append(rng.integers(0, largest, 12, dtype=np.uint32, endpoint=True), [0, largest])
    reference, prediction = rng.choice(values.astype(np.uint32), (2, 5, 9, 7))
    table = overlap_table(reference, prediction)
    assert as_dict(table) == counted_slowly(reference, prediction)
    assert {column.dtype for column in vars(table).values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    "largest", [(2**31 - 1, 2**32 - 1), (2**31, 2**32 - 1), (2**32 - 1, 2**31), (2**63 - 1, 2**63 - 1)]
)
def test_pairs_of_large_labels_are_kept_apart(largest):
    reference, prediction = (np.array([0, 1, n, n], np.uint64) for n in largest)
    table = overlap_table(reference, prediction)
    assert as_dict(table) == {(0, 0): 1, (1, 1): 1, largest: 2}


def test_memory_layout_does_not_matter():
    rng = np.random.default_rng(3)
    reference, prediction = rng.integers(0, 5, (2, 6, 7, 8), dtype=np.uint8)
    strided = overlap_table(
        reference.transpose(2, 0, 1)[::2], np.asfortranarray(prediction).transpose(2, 0, 1)[::2]
    )
    assert as_dict(strided) == counted_slowly(reference[..., ::2], prediction[..., ::2])


def test_inputs_are_left_as_they_were():
    reference, prediction = np.array([0, 3, 3]), np.array([1, 1, 0])
    overlap_table(reference, prediction)
    assert reference.tolist() == [0, 3, 3]
    assert prediction.tolist() == [1, 1, 0]


@pytest.mark.parametrize("shape", [(0,), (2, 3)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint64])
def test_images_without_objects_give_an_empty_table_of_pairs(shape, dtype):
    table = overlap_table(np.zeros(shape, dtype), np.zeros(shape, dtype))
    assert (table.n_ref, table.n_pred, table.n_common_voxels, len(table.pairs.iou)) == (0, 0, 0, 0)


def test_unlike_shapes_are_an_error_that_names_both():
    with pytest.raises(InputError, match=r"\(2, 3\) and \(3, 2\): resample or crop"):
        overlap_table(np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_probabilities_in_place_of_labels_are_an_error_that_names_the_dtype():
    with pytest.raises(InputError, match=r"prediction must hold integer labels.*float32: convert .* first$"):
        overlap_table(np.zeros(3, int), np.zeros(3, np.float32))


def test_negative_labels_are_an_error_that_names_the_smallest():
    with pytest.raises(InputError, match=r"reference must hold labels of 0 .*smallest is -1: set"):
        overlap_table(np.array([0, -1]), np.array([0, 1]))


def test_labels_beyond_int64_are_an_error():
    with pytest.raises(InputError, match=r"reference must .* is 9223372036854775808: relabel .*sequential$"):
        overlap_table(np.array([2**63], np.uint64), np.array([1]))
