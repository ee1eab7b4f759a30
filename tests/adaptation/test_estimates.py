"""Estimates from synthetic matches: quantiles in the image's units, or an error."""

import numpy as np
import pytest

from qcanet_monai.adaptation.abc_inference import Posterior
from qcanet_monai.adaptation.estimates import Estimate, Range, estimates, refuse, rows_of
from qcanet_monai.adaptation.synthetic_matches import SyntheticMatch
from qcanet_monai.core.appearance import appearance
from qcanet_monai.errors import InputError
from qcanet_monai.simulator.settings import Simulation

SPACING = (3.0, 0.5, 0.5)
SETTINGS = {
    "view.lateral_um": 1.0,
    "view.first": 4.0,
    "growth.kind": "embryo",
    "optics.axial_um": 4.0,
    "optics.lateral_um": 0.8,
    "optics.attenuation": 0.0,
    "optics.haze": 0.2,
    "camera.kind": "emccd",
    "camera.photons": 20.0,
    "camera.dark": 0.5,
    "camera.gain": 4.0,
    "camera.offset": 100.0,
    "camera.read_noise": 0.5,
    "camera.bits": 16,
}


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(150, 2000, (8, 40, 40)).astype(np.uint16)


def twin(image, *, nuclei=5, diameter=12.0, **settings) -> SyntheticMatch:
    """Make a match that looks like the image; `__` in a setting's name is a point."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    assert named.keys() <= SETTINGS.keys()
    looks = appearance(image, spacing=SPACING)
    return SyntheticMatch((0,), Simulation(), {**SETTINGS, **named}, looks, nuclei, diameter)


def like(twins, ood_score=1.0) -> Posterior:
    return Posterior([*twins], Simulation(), ood_score)


def read(image, twins) -> Estimate:
    return estimates(like(twins), image, SPACING)


def the(value) -> Range:
    return pytest.approx((value,) * 3)


def test_a_range_is_the_median_and_the_5th_and_95th_percentile(image):
    plain = twin(image)
    twins = [plain._replace(nuclei=n) for n in range(21)]
    assert read(image, twins).nuclei == Range(median=10, low=1, high=19)
    twins = [twin(image, camera__photons=float(n), optics__haze=n / 100) for n in (20, 7, 8, 1)]
    found = read(image, twins)
    assert found.photons == pytest.approx(np.quantile([1, 7, 8, 20], (0.5, 0.05, 0.95)))
    assert found.haze == pytest.approx(np.quantile([0.01, 0.07, 0.08, 0.2], (0.5, 0.05, 0.95)))


def test_words_are_those_of_most_twins(image):
    kinds = ("embryo", "tissue", "tissue")
    cameras = ("scmos", "counting", "scmos")
    twins = [twin(image, growth__kind=k, camera__kind=c) for k, c in zip(kinds, cameras, strict=True)]
    assert (read(image, twins).kind, read(image, twins).camera) == ("tissue", "scmos")


def test_lengths_are_converted_by_voxels_to_the_images_own_um(image):
    found = read(image, [twin(image)])
    assert found.diameter_voxels == the(12)
    assert found.diameter_um == the(12 * 0.5)
    assert found.axial_blur_um == the(4.0 / 1.0 * 0.5)
    assert found.lateral_blur_um == the(0.8 / 1.0 * 0.5)


def test_twins_that_differ_in_um_and_agree_in_voxels_agree_in_the_images_um(image):
    twins = [
        twin(image, view__lateral_um=edge, optics__axial_um=3 * edge, optics__lateral_um=0.7 * edge)
        for edge in (0.4, 0.8, 1.4)
    ]
    found = read(image, twins)
    assert found.axial_blur_um == the(3 * 0.5)
    assert found.lateral_blur_um == the(0.7 * 0.5)


def test_a_twin_without_nuclei_has_no_diameter_and_spoils_none(image):
    none = twin(image, nuclei=0, diameter=float("nan"))
    found = read(image, [twin(image, diameter=10.0), twin(image, diameter=10.0), none])
    assert found.diameter_voxels == the(10)
    assert found.nuclei.median == 5


def test_fading_is_the_last_slices_brightness_over_the_first(image):
    found = read(image, [twin(image, optics__attenuation=np.log(0.25))])
    assert found.brightness_along_z == the(0.25)


def test_light_and_stage_are_those_of_the_twins(image):
    found = read(image, [twin(image)])
    assert found.photons == the(20)
    assert found.background_photons == the(0.5)
    assert found.generation == the(4)


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (3.0, 50.0), (0.25, 1000.0)])
@pytest.mark.parametrize("kind", ["emccd", "scmos"])
def test_counts_are_the_twins_on_the_images_scale(image, factor, offset, kind):
    own = factor * image.astype(np.float64) + offset
    found = read(own, [twin(image, camera__kind=kind)])
    assert found.gain_counts == pytest.approx((4 * factor,) * 3, rel=1e-4)
    assert found.read_noise_counts == pytest.approx((0.5 * 4 * factor,) * 3, rel=1e-4)
    assert found.offset_counts == pytest.approx((100 * factor + offset,) * 3, rel=1e-4)


def test_a_counting_twin_has_neither_offset_nor_read_noise(image):
    own = 3 * image.astype(np.float64) + 50
    found = read(own, [twin(image, camera__kind="counting")])
    assert found.gain_counts == pytest.approx((12,) * 3, rel=1e-4)
    assert found.offset_counts == pytest.approx((50,) * 3, rel=1e-3)  # a counting camera has no offset
    assert found.read_noise_counts == pytest.approx((0,) * 3)


def test_twins_with_8_bits_do_not_tell_counts(image):
    plain, stretched = twin(image), twin(image, camera__bits=8, camera__gain=40.0)
    most = read(image, [plain, stretched, stretched])
    for name in ("offset_counts", "gain_counts", "read_noise_counts"):
        assert np.isnan(getattr(most, name)).all()
    few = read(image, [plain, plain, stretched])
    assert few.gain_counts == pytest.approx((4,) * 3)
    assert few.offset_counts == pytest.approx((100,) * 3)
    assert most.photons == few.photons == the(20)


def test_a_person_is_told_names_units_and_ranges(image):
    rows = rows_of(read(image, [twin(image)]))
    assert all(isinstance(name, str) and isinstance(value, str) for name, value in rows)
    told = dict(rows)
    assert len(told) == len(rows)
    assert told["looks like"] == "an embryo, cell cycle 4.0 (4.0 to 4.0)"
    assert told["camera"] == "emccd"
    assert told["nuclei in the part looked at"] == "5 (5 to 5)"
    assert told["nuclear diameter, µm"] == "6 (6 to 6)"
    assert told["axial blur, µm (SD)"] == "2 (2 to 2)"
    assert told["gain, counts per photon"] == "4 (4 to 4)"
    assert told["offset, counts"] == "100 (100 to 100)"
    assert told["read noise, counts"] == "2 (2 to 2)"


def test_a_tissue_has_no_cell_cycle(image):
    told = dict(rows_of(read(image, [twin(image, growth__kind="tissue")])))
    assert told["looks like"] == "a piece of tissue"


def test_what_is_not_known_is_not_told(image):
    counted = {"offset, counts", "gain, counts per photon", "read noise, counts"}
    whole, stretched = (dict(rows_of(read(image, [twin(image, camera__bits=bits)]))) for bits in (16, 8))
    assert set(whole) - set(stretched) == counted
    assert all(stretched[name] == whole[name] for name in stretched)


def one_line(posterior) -> str:
    with pytest.raises(InputError) as caught:
        refuse(posterior, "in/a.tif")
    message = str(caught.value)
    assert message.startswith("in/a.tif: expected ")
    assert len(message.splitlines()) == 1
    return message


def test_an_image_that_its_twins_explain_is_not_refused(image):
    twins = [twin(image, diameter=d) for d in (8.0, 12.0, 16.0)]
    refuse(like(twins, ood_score=1.2), "in/a.tif")


def test_an_image_that_no_twin_looks_like_is_refused(image):
    message = one_line(like([twin(image)], ood_score=3.14))
    assert "3.1 times as far" in message
    assert "train on annotated images" in message


def test_an_image_without_nuclei_is_refused(image):
    none = twin(image, nuclei=0, diameter=float("nan"))
    message = one_line(like([none, none, twin(image)]))
    assert "hold none" in message
    assert "give an image with some" in message


def test_nuclei_of_a_size_that_cannot_be_told_are_refused(image):
    twins = [twin(image, diameter=d) for d in np.linspace(5, 25, 21)]  # 5th and 95th percentile: 6 and 24
    message = one_line(like(twins))
    assert "6 to 24 voxels across" in message
    assert "larger or less noisy" in message


def test_a_few_twins_without_nuclei_do_not_refuse_an_image(image):
    none = twin(image, nuclei=0, diameter=float("nan"))
    refuse(like([twin(image)] * 3 + [none]), "in/a.tif")
