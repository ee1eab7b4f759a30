"""Fresh volumes per epoch: the same for the same epoch, on any machine."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor, ThreadDataLoader
from monai.transforms import Compose
from numpy.testing import assert_array_equal
from scipy import ndimage as ndi

from qcanet_monai.core.resample import nuclear_diameter_um
from qcanet_monai.errors import InputError
from qcanet_monai.nn.metatensor import spacing_of
from qcanet_monai.simulator.series import balls, simulate_frame, simulate_series
from qcanet_monai.simulator.settings import read_simulation
from qcanet_monai.transforms.fresh import FreshVolumes
from qcanet_monai.transforms.volumes import Isotropicd, Normalised

SMALL = """
view: {lateral_um: 4, anisotropy: 1.5, depth_um: 60, width_um: 80, last: 4}
camera: {bits: 16}
"""


def seed_of(epoch, index):
    return 3, 2, epoch, index


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def fresh(settings):
    def make(target="NSN", **options):
        given = {"volumes": 2, "transform": Compose([]), "settings": settings, "seed": 3, **options}
        return FreshVolumes(target, **given)

    return make


def images(volumes):
    return [volumes[i]["image"].numpy() for i in range(len(volumes))]


def same(one, two):
    return len(one) == len(two) and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_an_epoch_has_as_many_volumes_as_asked_all_different(fresh):
    volumes = fresh(volumes=4)
    assert len(volumes) == 4
    found = images(volumes)
    assert not any(np.array_equal(found[i], found[j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("target", ["NSN", "NDN"])
def test_an_item_is_a_simulated_frames_image_with_the_targets_truth(fresh, settings, target):
    item = fresh(target)[1]
    frame = simulate_frame(seed_of(0, 1), settings=read_simulation(settings))
    assert_array_equal(item["image"][0], frame.image)
    spheres = balls(frame.centres_voxel, frame.image.shape, spacing=frame.spacing, radius_um=12.0)
    assert_array_equal(item["label"][0], frame.nuclei if target == "NSN" else spheres)
    assert set(np.unique(item["label"])) == {0, 255}
    assert item["image"].dtype == torch.float32
    for key in ("image", "label"):
        assert isinstance(item[key], MetaTensor)
        assert spacing_of(item[key]) == pytest.approx((6.0, 4.0, 4.0))


def test_the_targets_share_their_images(fresh):
    assert same(images(fresh("NSN")), images(fresh("NDN")))


def test_the_transform_prepares_what_is_drawn(fresh):
    keys = ["image", "label"]
    item = fresh(transform=Compose([Isotropicd(keys), Normalised("image")]))[0]
    assert spacing_of(item["image"]) == pytest.approx((4.0, 4.0, 4.0))
    assert item["image"].shape == item["label"].shape == (1, 15, 20, 20)
    assert 0 == item["image"].min() < item["image"].max() <= 1
    assert set(np.unique(item["label"])) == {0, 1}


def test_another_epoch_or_seed_brings_other_volumes_and_the_same_the_same(fresh):
    one, again, other = fresh(), fresh(), fresh(seed=4)
    assert same(images(one), images(one))
    assert same(images(one), images(again))
    assert not same(images(one), images(other))
    first = images(one)
    one.epoch = 1
    second = images(one)
    assert not any(np.array_equal(a, b) for a in first for b in second)
    one.epoch = 0
    assert same(images(one), first)


GRIDDED = Compose([Isotropicd(["image", "label"])])


@pytest.fixture
def fine(fresh, tmp_path):
    """Make datasets of two cells with nuclei about 25 voxels across."""
    path = tmp_path / "fine.yaml"
    path.write_text(
        "view: {lateral_um: 0.8, anisotropy: 2, depth_um: 60, width_um: 80, first: 1.3, last: 1.3}\n"
        "growth: {zygote_volume_um3: 9000, size_spread: 0}"
    )

    def make(target="NSN", **options):
        return fresh(target, settings=path, transform=GRIDDED, **options)

    return make


def diameter_voxels(item):
    """Nuclear diameter of an NSN item, in voxels of its own grid."""
    spacing = spacing_of(item["label"])
    return nuclear_diameter_um(item["label"][0].numpy(), spacing=spacing) / spacing[0]


def test_large_nuclei_come_on_a_coarser_grid_held_out_ones_at_the_diameter_itself(fine):
    assert diameter_voxels(fine()[0]) > 22
    held_out = fine(max_diameter_voxels=16, held_out=True)
    assert [diameter_voxels(held_out[i]) for i in range(2)] == pytest.approx([16, 16], rel=0.08)


def test_a_training_sees_nuclei_of_about_the_diameter_and_some_as_they_are(fine):
    volumes = fine(max_diameter_voxels=12)
    seen = np.array([diameter_voxels(volumes[i]) for i in range(20)])
    as_they_are = seen > 21
    assert 1 <= as_they_are.sum() <= 10
    assert 12 / 1.7 < seen[~as_they_are].min() < 10 < 14 < seen[~as_they_are].max() < 12 * 1.7


def test_small_nuclei_and_a_fixed_grid_are_left_as_they_are(fine):
    finest = spacing_of(fine()[0]["image"])
    assert finest == pytest.approx((0.8, 0.8, 0.8))
    assert spacing_of(fine(max_diameter_voxels=40)[0]["image"]) == pytest.approx(finest)
    assert spacing_of(fine(max_diameter_voxels=10, isotropic_spacing_um=1.6)[0]["image"]) == pytest.approx(
        (1.6, 1.6, 1.6)
    )


@pytest.mark.parametrize(
    "options", [{}, {"max_diameter_voxels": 12, "held_out": True}, {"isotropic_spacing_um": 2.0}]
)
def test_ndn_learns_balls_of_6_voxels_of_its_grid(fine, options):
    label = fine("NDN", **options)[0]["label"][0].numpy()
    found, count = ndi.label(label)
    assert count == 2
    for box in ndi.find_objects(found):
        assert [part.stop - part.start for part in box] == pytest.approx([6, 6, 6], abs=1.5)


def test_held_out_volumes_are_none_of_the_trainings(fresh):
    training, held_out = fresh(volumes=4), fresh(volumes=4, held_out=True)
    assert not any(np.array_equal(a, b) for a in images(training) for b in images(held_out))
    assert same(images(held_out), images(fresh(volumes=4, held_out=True)))


def test_the_share_of_tissues_is_honoured(fresh, settings):
    embryos, tissues, both = (
        fresh(tissue_fraction=0.0),
        fresh(tissue_fraction=1.0),
        fresh(tissue_fraction=0.5),
    )
    kinds = [both.settings.draw(seed_of(0, i)).growth.kind for i in range(40)]
    assert 8 < kinds.count("tissue") < 32
    assert same(images(embryos), images(fresh()))
    drawn = read_simulation(settings).with_tissue(1.0)
    assert same(
        images(tissues), [simulate_frame(seed_of(0, i), settings=drawn).image[None] for i in range(2)]
    )
    assert not same(images(tissues), images(embryos))


def test_without_settings_the_shipped_ones_are_drawn(fresh):
    frame = simulate_frame(seed_of(0, 0))
    item = fresh(settings=None)[0]
    assert_array_equal(item["image"][0], frame.image)
    assert spacing_of(item["image"]) == pytest.approx(frame.spacing)


def test_no_volume_is_of_an_embryo_of_the_dataset_simulated_with_the_same_seed(fresh):
    volumes = fresh(settings=None, seed=0)
    for epoch in (0, 1, 2):
        volumes.epoch = epoch
        for index in range(2):
            drawn = spacing_of(volumes[index]["image"])
            for part in (0, 1):  # parts of `qcanet simulate --seed 0`: train and test
                frame = next(simulate_series((0, part, index), timepoints=1))
                assert drawn != pytest.approx(frame.spacing)


@pytest.mark.parametrize("target", ["nsn", "Tracks", ""])
def test_an_unknown_target_is_refused(fresh, target):
    with pytest.raises(InputError, match=f"expected a target of NSN, NDN, QCANet, outlines, got '{target}'"):
        fresh(target)


def test_settings_that_cannot_be_are_refused_before_any_training(fresh, tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*absent\.yaml"):
        fresh(settings=tmp_path / "absent.yaml")
    (tmp_path / "wrong.yaml").write_text("growth: {radius_um: -3}")
    with pytest.raises(InputError, match=r"wrong\.yaml.*growth\.radius_um"):
        fresh(settings=tmp_path / "wrong.yaml")
    with pytest.raises(InputError, match="share of tissues"):
        fresh(tissue_fraction=2.0)


@dataclass
class Training:
    """Engine that records each epoch's images, which a thread loads ahead."""

    volumes: FreshVolumes
    seen: dict[int, list[np.ndarray]] = field(default_factory=dict)

    def __post_init__(self):
        self.engine = Engine(self._note)
        self.volumes.attach(self.engine)

    def _note(self, engine, batch):
        self.seen.setdefault(engine.state.epoch, []).append(batch["image"][0].numpy())

    def run(self, epochs):
        loader = ThreadDataLoader(self.volumes, batch_size=1, shuffle=False, num_workers=0, buffer_size=2)
        self.engine.run(loader, max_epochs=epochs)
        return self.seen


def expected(fresh, epoch):
    volumes = fresh()
    volumes.epoch = epoch
    return images(volumes)


def test_a_trainer_counts_the_epochs(fresh):
    seen = Training(fresh()).run(3)
    assert set(seen) == {1, 2, 3}
    for epoch in seen:
        assert same(seen[epoch], expected(fresh, epoch))


def test_a_training_that_resumes_goes_on_with_the_volumes_that_it_would_have_seen(fresh):
    first, second = Training(fresh()), Training(fresh())
    first.run(2)
    second.engine.load_state_dict(first.engine.state_dict() | {"max_epochs": 4})
    seen = second.run(4)
    assert set(seen) == {3, 4}
    for epoch in seen:
        assert same(seen[epoch], expected(fresh, epoch))


def test_outlines_become_fractions_of_the_grids_voxels(fresh):
    prepared = Compose([Isotropicd(["image", "label"])])
    item, mask = (fresh(target, transform=prepared)[0]["label"][0].numpy() for target in ("outlines", "NSN"))
    assert item.dtype == np.float32
    assert item.min() == 0
    assert item.max() == 1
    assert ((item > 0.01) & (item < 0.99)).sum() > 20
    # masks of slices 6 um high and outlines between them have about the same volume
    assert item.sum() == pytest.approx(mask.sum(), rel=0.1)
    inside = fresh("QCANet")[0]["label"][0].numpy() > 0
    assert_array_equal(fresh("outlines")[0]["label"][0].numpy() > 0, inside)
