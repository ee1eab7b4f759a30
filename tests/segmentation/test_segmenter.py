"""Objects of one bundle and their uncertainty, with weights set by hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SHARED
from torch import nn

from qcanet_monai.bundle.bundle import SHIPPED, Bundle, shipped
from qcanet_monai.core.instances.uncertainty import drop_labels
from qcanet_monai.core.metrics.scores import evaluate
from qcanet_monai.errors import InputError, ModelError, OutputError
from qcanet_monai.io import Volume, read_csv, read_labels, read_volume, write_volume
from qcanet_monai.nn.anisotropic import AnisotropicUNet
from qcanet_monai.nn.joint import JointNet
from qcanet_monai.nn.unet import UNet3D
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.segmentation.segmenter import Segmenter
from qcanet_monai.simulator.series import simulate_frame
from qcanet_monai.simulator.settings import read_simulation
from qcanet_monai.training.export import export_bundle

SPACING = (2.0, 1.0, 1.0)
SHAPE = (10, 24, 32)
CENTRES = [(z, y, x) for z in (2, 7) for y in (5, 12, 19) for x in (5, 15, 25)]
DIM = CENTRES[::3]  # at x = 5
BRIGHT = [centre for centre in CENTRES if centre not in DIM]


def boxes(centres):
    found = np.zeros(SHAPE, bool)
    for z, y, x in centres:
        found[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = True
    return found


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """Write an image of eighteen nuclei, a third of them half as bright."""
    image = np.full(SHAPE, 100, np.uint16)
    image[boxes(BRIGHT)], image[boxes(DIM)] = 1100, 650
    path = tmp_path_factory.mktemp("image") / "a.tif"
    write_volume(path, image, spacing=SPACING)
    return Volume(image, SPACING, path)


def copied(unet, share):
    """Make a U-Net of depth 1 compare grey values to a fraction of the maximum."""
    for module in unet.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    unet.encoder[0][0].weight.data[:, 0, 1, 1, 1] = 1
    unet.encoder[0][3].weight.data[:, 0, 1, 1, 1] = 1
    skip = unet.decoder[0][0].weight.data[:, unet.up[0].out_channels :]
    skip[:, :, 1, 1, 1] = 1 / skip.shape[1]
    unet.decoder[0][3].weight.data[:, 0, 1, 1, 1] = 1
    unet.head.weight.data[-1] = 20 / unet.head.in_channels
    unet.head.bias.data[-1] = -20 * share
    return unet


def joint_net(dropout):
    """Make a joint network of that mask, with the blurred image as its density."""
    network = JointNet(depth=1, channels=2, detector_channels=4, dropout=dropout)
    copied(network.segmenter, 0.25)
    first, second, third, last = (module for module in network.detector if isinstance(module, nn.Conv3d))
    for layer in (first, second, third, last):
        nn.init.zeros_(layer.weight)
    first.weight.data[:, 1] = 1 / 27
    for channel, (y, x) in enumerate([(0, 1), (2, 1), (1, 0), (1, 2)]):
        second.weight.data[channel, channel, 1, y, x] = 1
        third.weight.data[channel, channel, 1, 1, 1] = 1
    last.weight.data[:] = 1 / 4
    return network


KNOBS = {
    "depth": 1,
    "channels": 2,
    "detector": "cnn",
    "detector_channels": 4,
    "isotropic_spacing_um": 1.0,
    "normalisation": "min_max",
    "min_peak": 0.05,
    "min_distance_um": 5.0,
    "precision": "fp32",
}


def write_bundle(name, folder, network, **knobs):
    export_bundle(SHIPPED / name, folder, knobs)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(
        "joint", tmp_path_factory.mktemp("joint") / "tiny", joint_net(0.3), **KNOBS, dropout=0.3
    )


@pytest.fixture(scope="module")
def surely(tmp_path_factory):
    return write_bundle(
        "joint", tmp_path_factory.mktemp("joint") / "sure", joint_net(0.0), **KNOBS, dropout=0.0
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Write NSN and NDN with dropout in one folder, as promotion did in version 0.1."""
    folder = tmp_path_factory.mktemp("pair") / "qcanet"
    for name in ("nsn", "ndn"):
        network = copied(UNet3D(1, 2, depth=1, channels=2, dropout=0.3), 0.25)
        knobs = {"depth": 1, "channels": 2, "kernel_size": 3, "normalisation": "min_max"}
        write_bundle(
            name,
            folder / name,
            network,
            **knobs,
            precision="fp32",
            max_diameter_voxels=None,
            isotropic_spacing_um=1.0,
        )
        config = folder / name / "configs" / "inference.yaml"
        text = config.read_text(encoding="utf-8")
        size = '  kernel_size: "@kernel_size"\n'
        assert text.count(size) == 1
        config.write_text(text.replace(size, size + "  dropout: 0.3\n"), encoding="utf-8")
    return folder


def same(one, other):
    assert np.array_equal(one.labels, other.labels)
    assert [*one.table] == [*other.table]
    for name, column in one.table.items():
        assert np.array_equal(column, other.table[name], equal_nan=True), name


def test_the_labels_are_the_nuclei_on_the_images_own_grid(bundle, volume):
    found = Segmenter(Bundle(bundle))(volume)
    assert found.labels.dtype == np.uint16
    assert np.array_equal(found.labels > 0, boxes(CENTRES))
    assert np.array_equal(np.unique(found.labels), np.arange(19))
    assert {len(np.unique(found.labels[boxes([centre])])) for centre in CENTRES} == {1}
    assert found.table["volume_um3"].tolist() == [54.0] * 18
    assert found.spread is None
    assert "uncertainty_um" not in found.table


def test_passes_tell_how_far_each_centre_may_lie_and_how_the_mask_varies(bundle, volume):
    plain, found = Segmenter(Bundle(bundle))(volume), Segmenter(Bundle(bundle), n_samples=8)(volume)
    assert np.array_equal(found.labels, plain.labels)
    assert [*found.table] == [*plain.table, "uncertainty_um", "mask_spread"]
    for name, column in plain.table.items():
        assert np.array_equal(column, found.table[name]), name
    assert found.spread.shape == SHAPE
    assert found.spread.max() > 0.1
    for row, label in enumerate(found.table["label"]):
        assert found.table["mask_spread"][row] == pytest.approx(found.spread[found.labels == label].mean())
    # a nucleus that is found lies within about a voxel
    x = found.table["centroid_x_um"]
    assert found.table["uncertainty_um"][x > 6].max() < 3
    assert np.median(found.table["uncertainty_um"][x < 6]) > np.median(found.table["uncertainty_um"][x > 6])


def test_the_same_passes_come_every_time(bundle, volume):
    segmenter = Segmenter(Bundle(bundle), n_samples=4)
    first = segmenter(volume)
    torch.manual_seed(77)
    same(first, segmenter(volume))
    same(first, Segmenter(Bundle(bundle), n_samples=4)(volume))
    assert np.array_equal(first.spread, segmenter(volume).spread)


def logits_of_bright_voxels(bundle, max_voxels):
    """Count the distinct values of equal bright voxels in each of three samples."""
    image = np.full((20, 24, 32), 100, np.uint16)
    image[::4, ::4, ::4] = 900
    predictor = Segmenter(Bundle(bundle), max_voxels=max_voxels).predictors[""]
    passes = predictor.mc_dropout_samples(predictor.preprocess(image, spacing=(1.0, 1.0, 1.0)), 3)
    return [len(np.unique(outputs[0, ::4, ::4, ::4].round(4))) for outputs in passes]


def test_a_pass_is_one_networks_all_over_the_volume(bundle):
    assert logits_of_bright_voxels(bundle, 10**6) == [1, 1, 1]


def test_a_pass_is_one_networks_in_however_many_parts(bundle):
    assert logits_of_bright_voxels(bundle, 3000) == [1, 1, 1]


@pytest.mark.parametrize(("share", "dropped"), [(1 / 3, 6), (0.3, 5), (0.25, 5), (0.01, 0), (0.99, 18)])
def test_the_least_sure_are_left_out_and_the_others_numbered_anew(bundle, volume, share, dropped):
    whole = Segmenter(Bundle(bundle), n_samples=8)(volume)
    found = Segmenter(Bundle(bundle), n_samples=8, drop_uncertain=share)(volume)
    order = np.argsort(-whole.table["uncertainty_um"], kind="stable")
    out = np.isin(np.arange(18), order[:dropped])
    assert np.array_equal(found.labels, drop_labels(whole.labels, out))
    assert found.table["label"].tolist() == list(range(1, 19 - dropped))
    for name, column in found.table.items():
        if name != "label":
            assert np.array_equal(column, whole.table[name][~out]), name
    assert found.integral == whole.integral  # the integral includes dropped nuclei


def test_what_is_half_as_bright_is_what_is_left_out(bundle, volume):
    found = Segmenter(Bundle(bundle), n_samples=8, drop_uncertain=1 / 3)(volume)
    assert np.array_equal(found.labels > 0, boxes(BRIGHT))


def test_the_integral_is_that_of_the_density_if_the_bundle_counts(bundle, volume):
    counting = Segmenter(Bundle(bundle))
    density = counting.predict(counting.preprocess(volume), volume)[0][1]
    assert counting.counts
    # 2 µm³ per voxel, Gaussians of 2 µm
    assert counting(volume).integral == pytest.approx(density.sum() * 2 / (2 * np.pi) ** 1.5 / 2**3, rel=1e-5)
    silent = Segmenter(Bundle(bundle), count_from_density=False)
    assert not silent.counts
    assert silent(volume).integral is None


def test_an_empty_image_has_no_nuclei_with_passes_or_without(bundle, volume):
    empty = Volume(np.random.default_rng(0).integers(1, 9, SHAPE).astype(np.uint16), SPACING, volume.source)
    for n_samples in (0, 2):
        found = Segmenter(Bundle(bundle), n_samples=n_samples, threshold=1.1)(empty)
        assert not found.labels.any()
        assert {len(column) for column in found.table.values()} == {0}


def test_knobs_set_the_bundles_configuration(bundle, volume):
    assert Segmenter(Bundle(bundle), threshold=1.0)(volume).labels.max() == 0
    assert Segmenter(Bundle(bundle), min_size=28, isotropic_spacing_um=None)(volume).labels.max() == 0
    assert Segmenter(Bundle(bundle), isotropic_spacing_um=2.0).predictors[""].isotropic_spacing_um == 2.0
    with pytest.raises(ModelError, match="no key colour to override"):
        Segmenter(Bundle(bundle), colour=1)


def test_passes_need_a_bundle_with_dropout(surely, volume):
    assert Segmenter(Bundle(surely))(volume).labels.max() == 18
    with pytest.raises(ModelError, match="expected a bundle trained with dropout") as refusal:
        Segmenter(Bundle(surely), n_samples=4)(volume)
    assert str(surely) in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_uncertain": 0.1}, "expected dropout samples to rank objects, got none"),
        ({"n_samples": -1}, "n_samples of at least 0"),
        ({"n_samples": 4, "drop_uncertain": 1.0}, r"fraction to drop in \[0, 1\), got 4, 1.0"),
        ({"n_samples": 4, "drop_uncertain": -0.1}, r"fraction to drop in \[0, 1\)"),
    ],
)
def test_impossible_samples_and_shares_are_refused(bundle, pair, options, message):
    with pytest.raises(InputError, match=message):
        Segmenter(Bundle(bundle), **options)
    with pytest.raises(InputError, match=message):
        load_segmenter(nsn=pair / "nsn", ndn=pair / "ndn", **options)


def test_a_bundle_that_gives_a_probability_only_is_refused(pair):
    with pytest.raises(ModelError, match="predicts a probability only: give it as --nsn or --ndn") as refusal:
        Segmenter(Bundle(pair / "nsn"))
    assert str(pair / "nsn") in str(refusal.value)


@pytest.mark.parametrize("shape", [(6, 20, 12), (3, 8, 40), (4, 16, 16)])
def test_outside_of_its_window_a_bundle_sees_nothing(shape, tmp_path):
    torch.manual_seed(0)
    options = {"channels": 1, "levels": 3, "flat_poolings": 1}
    folder = write_bundle(
        "spindle",
        tmp_path / "spindle",
        AnisotropicUNet(**options, attention=True),
        **options,
        window=[4, 16, 16],
    )
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    # every seen voxel has a probability, however small
    segmenter = Segmenter(Bundle(folder), threshold=1e-30, precision="fp32")
    found = segmenter(Volume(image, SPACING, tmp_path / "a.tif")).labels
    inside = tuple(
        slice(max(0, (n - m) // 2), max(0, (n - m) // 2) + min(n, m))
        for n, m in zip(shape, (4, 16, 16), strict=True)
    )
    expected = np.zeros(shape, np.uint16)
    expected[inside] = 1
    assert np.array_equal(found, expected)


def test_two_networks_with_dropout_tell_how_sure_they_are_together(pair, volume):
    plain, found = (
        load_segmenter(nsn=pair / "nsn", ndn=pair / "ndn", n_samples=n_samples)(volume)
        for n_samples in (0, 8)
    )
    assert np.array_equal(plain.labels > 0, boxes(CENTRES))
    assert np.array_equal(found.labels, plain.labels)
    assert [*found.table] == [*plain.table, "uncertainty_um", "mask_spread"]
    radius = found.table["uncertainty_um"]
    assert (radius >= 0).all()
    assert np.isfinite(radius).any()  # found by most samples
    assert np.isinf(radius).any()  # lost by most samples
    assert found.spread.max() > 0.1
    assert found.integral is None
    same(found, load_segmenter(nsn=pair / "nsn", ndn=pair / "ndn", n_samples=8)(volume))
    fewer = load_segmenter(nsn=pair / "nsn", ndn=pair / "ndn", n_samples=8, drop_uncertain=0.25)(volume)
    assert fewer.table["label"].tolist() == list(range(1, 14))
    assert fewer.labels.max() == 13


def test_without_ndn_its_passes_are_nsns_alone(pair, volume):
    found = load_segmenter(nsn=pair / "nsn", ndn="none", n_samples=4)(volume)
    assert np.array_equal(found.labels > 0, boxes(CENTRES))
    radius = found.table["uncertainty_um"]
    assert (radius >= 0).all()
    assert np.isfinite(radius).any()  # found by most samples
    assert np.isinf(radius).any()  # lost by most samples


def test_the_shipped_networks_have_no_dropout(volume):
    with pytest.raises(ModelError, match="expected a bundle trained with dropout") as refusal:
        load_segmenter(n_samples=2)(volume)
    assert str(SHIPPED / "qcanet") in str(refusal.value)


def segmented(bundle, volume, out, **options):
    segmenter = Segmenter(Bundle(bundle), **options)
    result = segment_files([volume.source], out, segmenter, workers=1)
    assert not result.failures
    return result


def test_files_get_the_further_columns_and_a_picture_of_the_uncertainty(bundle, volume, tmp_path):
    out = tmp_path / "out"
    segmented(bundle, volume, out, n_samples=4, drop_uncertain=0.25)
    found = Segmenter(Bundle(bundle), n_samples=4, drop_uncertain=0.25)(volume)
    assert {path.name for path in out.iterdir()} == {
        *("a_labels.tif", "a_overlay.png", "a_uncertainty.png"),
        *("nuclei.csv", "timepoints.csv", "run.json", ".done", ".measured.json"),
    }
    assert (out / "a_uncertainty.png").read_bytes().startswith(b"\x89PNG")
    nuclei, timepoints = read_csv(out / "nuclei.csv"), read_csv(out / "timepoints.csv")
    assert [*nuclei][-2:] == ["uncertainty_um", "mask_spread"]
    assert nuclei["label"].tolist() == list(range(1, 14))
    radius = np.where(np.isinf(found.table["uncertainty_um"]), np.nan, found.table["uncertainty_um"])
    np.testing.assert_allclose(nuclei["uncertainty_um"], radius, rtol=1e-5)
    np.testing.assert_allclose(nuclei["mask_spread"], found.table["mask_spread"], rtol=1e-5)
    assert np.array_equal(read_labels(out / "a_labels.tif").array, found.labels)
    assert timepoints["n_nuclei"].tolist() == [13]
    assert timepoints["integral_n_nuclei"] == pytest.approx([found.integral], rel=1e-5)
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert (run["n_samples"], run["drop_uncertain"]) == (4, 0.25)
    assert run["models"]["model"]["bundle"] == str(bundle)
    assert run["models"]["model"]["version"]


def test_without_passes_there_is_no_such_picture_or_column(bundle, volume, tmp_path):
    segmented(bundle, volume, tmp_path, count_from_density=False)
    assert not (tmp_path / "a_uncertainty.png").exists()
    assert "uncertainty_um" not in read_csv(tmp_path / "nuclei.csv")
    assert "integral_n_nuclei" not in read_csv(tmp_path / "timepoints.csv")
    assert "n_samples" not in json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))


def test_a_missing_picture_and_other_settings_are_done_again_and_nothing_else(bundle, volume, tmp_path):
    assert segmented(bundle, volume, tmp_path, n_samples=2).kept == 0
    assert segmented(bundle, volume, tmp_path, n_samples=2).kept == 1
    (tmp_path / "a_uncertainty.png").unlink()
    assert segmented(bundle, volume, tmp_path, n_samples=2).kept == 0
    assert (tmp_path / "a_uncertainty.png").is_file()
    prints = [
        str(Segmenter(Bundle(bundle), **options).fingerprint())
        for options in (
            *({"n_samples": 2}, {"n_samples": 3}, {"n_samples": 2, "drop_uncertain": 0.5}),
            *({"n_samples": 2, "min_peak": 0.3}, {}),
        )
    ]
    assert len(set(prints)) == 5


@pytest.mark.parametrize(
    ("before", "after", "table"),
    [
        ({}, {"n_samples": 2}, "nuclei.csv"),
        ({"n_samples": 2}, {}, "nuclei.csv"),
        ({}, {"count_from_density": False}, "timepoints.csv"),
    ],
)
def test_a_folder_with_tables_of_other_columns_is_refused_as_it_is(
    bundle, volume, tmp_path, before, after, table
):
    segmented(bundle, volume, tmp_path, **before)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match=f"{table} holds a table with other columns"):
        segmented(bundle, volume, tmp_path, **after)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_images_side_by_side_get_the_passes_that_each_gets_alone(bundle, volume, tmp_path):
    images = [tmp_path / f"t{number}.tif" for number in range(2)]
    for number, path in enumerate(images):
        write_volume(path, np.roll(volume.array, number, axis=2), spacing=SPACING)
    segmenter = Segmenter(Bundle(bundle), n_samples=4)
    for workers in (1, 2):
        segment_files(images, tmp_path / f"by{workers}", segmenter, workers=workers)
    for name in ("nuclei.csv", "t0_labels.tif", "t1_labels.tif", "t0_uncertainty.png"):
        assert (tmp_path / "by1" / name).read_bytes() == (tmp_path / "by2" / name).read_bytes()


def test_overrides_make_the_same_segmenter_once_more(bundle, volume):
    one = Segmenter(Bundle(bundle), n_samples=3, drop_uncertain=0.5, min_peak=0.3, precision=None)
    assert one.overrides == {"min_peak": 0.3}
    other = Segmenter(Bundle(bundle), n_samples=3, drop_uncertain=0.5, **one.overrides)
    assert other.fingerprint() == one.fingerprint()
    same(one(volume), other(volume))


def test_a_bundle_of_two_networks_takes_others_in_place_of_its_own(pair, volume, tmp_path):
    both = load_segmenter("qcanet", nsn=pair / "nsn", ndn=pair / "ndn", test_time_augmentation=True)
    assert [both.bundle.part(name).folder for name in both.predictors] == [pair / "nsn", pair / "ndn"]
    assert {len(one.inferer.inferer.mirrored) for one in both.predictors.values()} == {4}
    inside = load_segmenter(nsn=pair / "nsn")
    assert inside.bundle.part("ndn").folder == SHIPPED / "qcanet"
    alone = both.bundle.copy_to(tmp_path / "alone")
    again = Segmenter(Bundle(alone.folder), test_time_augmentation=True)
    assert again.bundle.parts == {}
    same(both(volume), again(volume))
    with pytest.raises(ModelError, match="no key nsn to override"):
        load_segmenter("joint", nsn=pair / "nsn")
    with pytest.raises(ModelError, match="networks nsn to replace"):
        Bundle(pair / "nsn").with_parts({"nsn": Bundle(pair / "nsn")}).inference  # noqa: B018


def test_a_part_of_a_joined_bundle_replaces_the_same_part_of_another(pair, volume, tmp_path):
    joined = Bundle.find("qcanet").with_parts({"nsn": Bundle(pair / "nsn"), "ndn": Bundle(pair / "ndn")})
    joined.copy_to(tmp_path / "joined")
    one = load_segmenter(nsn=tmp_path / "joined", ndn=tmp_path / "joined")
    same(one(volume), load_segmenter(nsn=pair / "nsn", ndn=pair / "ndn")(volume))


def test_shipped_bundles_go_by_their_names_and_others_by_their_folders(tmp_path):
    assert {"nsn", "ndn", "joint", "qcanet"} <= set(shipped())
    for name in shipped():
        assert Bundle.find(name).folder == SHIPPED / name
    assert Bundle.find(tmp_path).folder == Bundle.find(str(tmp_path)).folder == tmp_path
    assert Bundle.find("bundled", bundled="nsn").folder == SHIPPED / "nsn"
    for reference in ("best", "bundled"):
        with pytest.raises(ModelError, match=f"'{reference}'"):
            load_segmenter(reference)


def test_a_folder_that_is_no_bundle_or_lacks_its_weights_is_refused(bundle, tmp_path):
    with pytest.raises(ModelError, match=r"expected a bundle with configs/inference\.yaml"):
        load_segmenter(tmp_path)
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "models" / "model.pt").unlink()
    with pytest.raises(ModelError, match=r"expected weights in .*model\.pt"):
        load_segmenter(copy)


OVULE = SHARED / "data/ovule_membranes"


def test_the_shipped_network_finds_cells_of_a_simulated_tissue():
    frame = simulate_frame(
        (12345,), settings=read_simulation("cells").changed({"view": {"width_um": 32, "depth_um": 20}})
    )
    found = load_segmenter("cellseg3d")(Volume(frame.image, frame.spacing, Path("tissue.tif")))
    scores = evaluate(frame.instances, found.labels, spacing=frame.spacing)
    assert scores["n_ref"] > 8
    assert scores["cell_jaccard_mean"] > 0.65
    assert scores["adapted_rand_error"] < 0.2


@pytest.mark.skipif(not OVULE.is_dir(), reason="needs the real images in ../shared/data")
def test_the_shipped_network_finds_cells_of_a_real_tissue_that_it_was_not_trained_on():
    raw, truth = read_volume(OVULE / "raw.tif"), read_labels(OVULE / "label.tif")
    found = load_segmenter("cellseg3d")(raw)
    scores = evaluate(truth.array, found.labels, spacing=raw.spacing)
    assert scores["cell_jaccard_mean"] > 0.4
    assert scores["adapted_rand_error"] < 0.5


@pytest.mark.parametrize("edge", [0, -1.0, float("nan"), float("inf")])
def test_a_grid_that_cannot_be_is_refused(edge):
    with pytest.raises(InputError) as caught:
        Segmenter(Bundle.find("qcanet"), isotropic_spacing_um=edge)
    assert str(caught.value).startswith("expected an isotropic spacing in µm above 0, got ")
