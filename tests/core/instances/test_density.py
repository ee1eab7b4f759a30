"""Centres to a density and back, and a joint network's outputs to labels."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from qcanet_monai.core.instances import density as density_module
from qcanet_monai.core.instances.density import (
    count,
    density_map,
    density_peaks,
    gaussian_voxels,
    labels_from_density,
)
from qcanet_monai.core.metrics.detection import centroids_um
from qcanet_monai.errors import InputError

SPACING = (1.4, 0.8, 0.6)
UNIT = (1.0, 1.0, 1.0)


def by_place(points):
    return points[np.lexsort(points.T)]


def spots(shape=(20, 32, 40), n=6, seed=0, apart_um=6.0):
    rng, chosen = np.random.default_rng(seed), []
    extent = np.array(shape) * SPACING
    while len(chosen) < n:
        new = rng.uniform(5, extent - 5)
        if all(np.linalg.norm(new - old) > apart_um for old in chosen):
            chosen.append(new)
    return np.array(chosen)


def test_a_gaussian_has_its_closed_form_about_its_exact_centre():
    centre = np.array([9.3, 8.1, 7.7])
    density = density_map(centre[None], (14, 20, 26), spacing=SPACING, sigma_um=1.2)
    offsets = np.indices(density.shape).reshape(3, -1).T * SPACING - centre
    expected = np.exp(-0.5 * (offsets**2).sum(1) / 1.2**2)
    expected[(np.abs(offsets) > 4 * 1.2).any(1)] = 0
    assert density.dtype == np.float32
    assert_allclose(density.ravel(), expected, rtol=1e-6)


def test_a_centre_on_a_voxel_has_height_1_and_centres_add_up():
    shape, centres = (9, 9, 9), np.array([[4.0, 4.0, 4.0], [4.0, 4.0, 6.0]])
    one = density_map(centres[:1], shape, spacing=UNIT)
    assert one.max() == one[4, 4, 4] == 1
    both = one.astype(float) + density_map(centres[1:], shape, spacing=UNIT)
    # each value is rounded to float32 once on both sides
    assert_allclose(density_map(centres, shape, spacing=UNIT), both, rtol=2 * np.finfo(np.float32).eps)


def test_the_integral_is_the_number_of_nuclei():
    for n in (0, 1, 6):
        density = density_map(spots(n=n), (20, 32, 40), spacing=SPACING, sigma_um=1.0)
        assert count(density, spacing=SPACING, sigma_um=1.0) == pytest.approx(n, rel=1e-3)


def test_half_a_nucleus_at_the_border_counts_half():
    # the centre lies on the outer face of the last voxel
    density = density_map(np.array([[19.5, 10.0, 10.0]]), (20, 21, 21), spacing=UNIT)
    assert count(density, spacing=UNIT, sigma_um=1.0) == pytest.approx(0.5, rel=1e-3)


def test_the_sum_of_a_gaussian_is_its_closed_form():
    assert gaussian_voxels((2.0, 1.0, 0.5), 1.0) == pytest.approx((2 * np.pi) ** 1.5)
    assert gaussian_voxels(UNIT, 2.0) == pytest.approx(8 * (2 * np.pi) ** 1.5)


def test_centres_far_outside_leave_nothing():
    far = np.array([[-30.0, 4, 4], [4, 60, 4], [4, 4, -4.5]])
    assert not density_map(far, (8, 8, 8), spacing=UNIT).any()


@pytest.mark.parametrize("sigma", [0, -1.0, np.inf, np.nan])
def test_a_sigma_that_is_no_length_is_refused(sigma):
    with pytest.raises(InputError, match="finite sigma"):
        density_map(np.zeros((1, 3)), (4, 4, 4), spacing=UNIT, sigma_um=sigma)
    with pytest.raises(InputError, match="finite sigma"):
        count(np.zeros(3), spacing=UNIT, sigma_um=sigma)


@pytest.mark.parametrize("spacing", [SPACING, (1 / 0.7,) * 3, (0.4, 0.4, 0.4)])
def test_peaks_come_back_where_the_gaussians_stand_on_fine_and_on_coarse_voxels(spacing):
    rng = np.random.default_rng(2)
    for _ in range(20):
        centre = (np.array([12, 12, 12]) + rng.uniform(-0.5, 0.5, 3)) * spacing
        density = density_map(centre[None], (25, 25, 25), spacing=spacing)
        assert_allclose(density_peaks(density, spacing=spacing), centre[None], atol=1e-6)


def test_several_peaks_come_back_the_highest_first():
    centres = spots()
    density = density_map(centres, (20, 32, 40), spacing=SPACING)
    heights = np.zeros(len(centres))
    for i, centre in enumerate(centres):
        heights[i] = density_map(centre[None], density.shape, spacing=SPACING).max()
    peaks = density_peaks(density, spacing=SPACING)
    assert_allclose(peaks, centres[np.argsort(-heights)], atol=1e-3)


def test_equally_high_neighbours_are_one_peak_in_their_middle():
    density = np.zeros((5, 8, 8), np.float32)
    density[2, 3:5, 3:5] = 0.7
    assert_array_equal(density_peaks(density, spacing=(9.0, 9.0, 9.0)), [[18, 31.5, 31.5]])
    assert_array_equal(density_peaks(np.ones((3, 3, 3)), spacing=UNIT), [[1, 1, 1]])


def test_a_peak_at_the_border_stays_in_its_voxel():
    for shape in ((1, 1, 1), (1, 4, 1), (2, 4, 4)):
        density = np.zeros(shape)
        density[0, 0, 0] = 1
        assert_array_equal(density_peaks(density, spacing=UNIT), [[0, 0, 0]])


def test_the_threshold_itself_is_enough():
    density = np.zeros((3, 3, 9))
    density[1, 1, 2], density[1, 1, 6] = 0.25, 0.2499
    assert_array_equal(density_peaks(density, spacing=UNIT, threshold=0.25), [[1, 1, 2]])
    assert density_peaks(np.zeros((3, 3, 3)), spacing=UNIT).shape == (0, 3)


def test_of_three_peaks_in_a_row_the_one_near_to_a_peak_that_went_stays():
    density = np.zeros((3, 3, 20))
    density[1, 1, [4, 6, 8]] = [0.9, 0.8, 0.7]
    assert_array_equal(density_peaks(density, spacing=UNIT, min_distance_um=3.0)[:, 2], [4, 8])
    assert_array_equal(density_peaks(density, spacing=UNIT, min_distance_um=2.0)[:, 2], [4, 6, 8])


def test_no_two_peaks_of_noise_are_nearer_than_asked_for():
    noise = np.random.default_rng(3).random((12, 24, 24), np.float32)
    peaks = density_peaks(noise, spacing=SPACING, min_distance_um=2.5)
    between = np.linalg.norm(peaks[:, None] - peaks, axis=2) + np.diag(np.full(len(peaks), np.inf))
    assert len(peaks) > 20
    assert between.min() >= 2.5
    # no peak is dropped needlessly: every local maximum is close to a kept peak
    everything = density_peaks(noise, spacing=SPACING, min_distance_um=0)
    assert np.linalg.norm(everything[:, None] - peaks, axis=2).min(1).max() < 2.5


def test_a_gaussian_is_computed_within_its_reach_only(monkeypatch):
    sizes, exp = [], np.exp
    monkeypatch.setattr(np, "exp", lambda values: sizes.append(np.size(values)) or exp(values))
    centres = np.random.default_rng(4).uniform(5, 120, (10, 3))
    density_map(centres, (128, 128, 128), spacing=UNIT)
    assert 0 < sum(sizes) <= 10 * 3 * 9  # the profile along each axis, 4 sigma to both sides


def test_only_peaks_are_refined_and_only_near_pairs_compared(monkeypatch):
    refined, compared, offsets = [], [], density_module._offsets

    class Tree(cKDTree):
        def sparse_distance_matrix(self, *others, **options):
            near = super().sparse_distance_matrix(*others, **options)
            compared.append(len(near))
            return near

    monkeypatch.setattr(density_module, "cKDTree", Tree)
    monkeypatch.setattr(density_module, "_offsets", lambda d, at: refined.append(len(at)) or offsets(d, at))
    noise = np.random.default_rng(3).random((24, 24, 24), np.float32)
    highest = (noise >= 0.2) & (noise == ndi.maximum_filter(noise, size=3, mode="nearest"))
    density_peaks(noise, spacing=UNIT, min_distance_um=3.0)
    assert refined == [highest.sum()]
    assert 0 < sum(compared) < 20 * highest.sum() < highest.sum() ** 2 / 10


def test_peaks_need_a_volume_and_a_threshold():
    with pytest.raises(InputError, match=r"shape \(4, 4\)"):
        density_peaks(np.zeros((4, 4)), spacing=UNIT)
    with pytest.raises(InputError, match="threshold above 0"):
        density_peaks(np.zeros((4, 4, 4)), spacing=UNIT, threshold=0)


def joint(*boxes, peaks=(), shape=(6, 12, 30)):
    """Return outputs: probability 0.9 in boxes, and single voxels of a density."""
    outputs = np.zeros((2, *shape), np.float32)
    for box in boxes:
        outputs[(0, *box)] = 0.9
    for height, *voxel in peaks:
        outputs[(1, *voxel)] = height
    return outputs


def test_two_peaks_divide_a_component_at_its_neck():
    rows = slice(2, 4), slice(3, 8)
    left, right, neck = (*rows, slice(2, 8)), (*rows, slice(10, 16)), (slice(2, 3), slice(5, 6), slice(8, 10))
    outputs = joint(left, right, neck, peaks=[(1.0, 2, 5, 12), (0.8, 2, 5, 5)])
    found = labels_from_density(outputs, spacing=UNIT)
    assert_array_equal(found.centres_um, [[2, 5, 12], [2, 5, 5]])
    assert (found.labels[left] == 2).all()
    assert (found.labels[right] == 1).all()
    assert_array_equal(found.labels > 0, outputs[0] >= 0.5)
    assert_array_equal(found.foreground, outputs[0])
    assert found.labels.dtype == np.uint16


def test_gaussians_come_back_as_labels_with_their_centres():
    centres = spots()
    shape = (20, 32, 40)
    places = np.indices(shape).transpose(1, 2, 3, 0) * SPACING
    nearest = np.linalg.norm(places[..., None, :] - centres, axis=-1)
    truth = np.where(nearest.min(-1) < 2.8, nearest.argmin(-1) + 1, 0)
    outputs = np.stack([truth > 0, density_map(centres, shape, spacing=SPACING)]).astype(np.float32)
    found = labels_from_density(outputs, spacing=SPACING)
    assert found.labels.max() == len(centres)
    for label, centre in enumerate(found.centres_um, 1):
        (number,) = np.flatnonzero(np.linalg.norm(centres - centre, axis=1) < 1e-3)
        assert_array_equal(found.labels == label, truth == number + 1)


def test_a_peak_outside_the_mask_marks_its_nearest_voxel_or_none():
    box = (slice(1, 5), slice(3, 8), slice(4, 9))
    near, far = (1.0, 2, 5, 11), (1.0, 2, 5, 20)
    found = labels_from_density(joint(box, peaks=[near, far]), spacing=UNIT, min_distance_um=3.0)
    assert_array_equal(found.centres_um, [[2, 5, 11]])
    assert_array_equal(found.labels[box], 1)
    # 3 µm from column 11 to column 8; below that, no peak is a marker and the component becomes a label
    found = labels_from_density(joint(box, peaks=[near, far]), spacing=UNIT, min_distance_um=2.9)
    assert_array_equal(found.centres_um, [[2.5, 5, 6]])


def test_of_two_components_beside_a_peak_the_nearer_one_is_marked():
    further, nearer = (slice(1, 2), slice(3, 8), slice(4, 9)), (slice(3, 5), slice(3, 8), slice(12, 16))
    found = labels_from_density(
        joint(further, nearer, peaks=[(1.0, 2, 5, 11)]), spacing=UNIT, min_distance_um=4.0
    )
    assert (found.labels[nearer] == 1).all()
    assert not found.labels[further].any()


def test_the_peak_in_the_mask_holds_its_voxel_against_one_outside():
    box = (slice(2, 3), slice(5, 6), slice(6, 7))
    outputs = joint(box, peaks=[(1.0, 2, 5, 9), (0.6, 2, 5, 6)])
    found = labels_from_density(outputs, spacing=UNIT, min_distance_um=3.0)
    assert_array_equal(found.centres_um, [[2, 5, 6]])
    assert found.labels.max() == 1


def test_without_peaks_components_are_labels_with_their_centres_of_gravity():
    outputs = joint((slice(1, 4), slice(2, 5), slice(2, 5)), (slice(2, 5), slice(6, 9), slice(20, 25)))
    found = labels_from_density(outputs, spacing=SPACING)
    assert_allclose(found.centres_um, np.array([[2, 3, 3], [3, 7, 22]]) * SPACING)
    assert_allclose(found.centres_um, centroids_um(found.labels, spacing=SPACING))
    assert len(found.recovered) == 0


def test_a_component_without_a_peak_stays_at_the_border_only_and_on_demand():
    marked, cut, inside = (
        (slice(1, 4), slice(2, 5), slice(2, 5)),
        (slice(0, 2), slice(6, 9), slice(12, 15)),
        (slice(1, 4), slice(2, 5), slice(22, 25)),
    )
    outputs = joint(marked, cut, inside, peaks=[(1.0, 2, 3, 2)])
    assert labels_from_density(outputs, spacing=UNIT).labels.max() == 1
    found = labels_from_density(outputs, spacing=UNIT, recover_border=True)
    assert (found.labels[cut] == 2).all()
    assert not found.labels[inside].any()
    assert_array_equal(found.centres_um, [[2, 3, 2], [0.5, 7, 13]])
    assert_array_equal(found.recovered, [2])


def test_labels_of_few_voxels_are_left_out_and_the_others_keep_their_centres():
    small, large, cut = (
        (slice(2, 3), slice(2, 4), slice(2, 4)),
        (slice(1, 4), slice(2, 5), slice(12, 15)),
        (slice(0, 2), slice(6, 9), slice(22, 25)),
    )
    outputs = joint(small, large, cut, peaks=[(1.0, 2, 2, 2), (0.5, 2, 3, 13)])
    assert labels_from_density(outputs, spacing=UNIT, min_size=4).labels.max() == 2
    found = labels_from_density(outputs, spacing=UNIT, min_size=5, recover_border=True)
    assert (found.labels[large] == 1).all()
    assert (found.labels[cut] == 2).all()
    assert not found.labels[small].any()
    assert_array_equal(found.centres_um, [[2, 3, 13], [0.5, 7, 23]])
    assert_array_equal(found.recovered, [2])


def test_an_empty_mask_has_no_label():
    found = labels_from_density(joint(peaks=[(1.0, 2, 2, 2)]), spacing=UNIT)
    assert not found.labels.any()
    assert found.centres_um.shape == (0, 3)


@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (3, 4, 4, 4), (2, 4, 4)])
def test_other_than_two_outputs_are_refused(shape):
    with pytest.raises(InputError, match="expected two outputs"):
        labels_from_density(np.zeros(shape, np.float32), spacing=UNIT)
