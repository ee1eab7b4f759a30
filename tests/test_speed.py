"""Speed benchmark: its loops are oracles; figures reach table, file and picture."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import nn

sys.path.append(str(Path(__file__).parents[1]))  # a bare `pytest` does not search the root

from benchmarks import __main__ as benchmark
from benchmarks import arrays, reference
from benchmarks.growth import fresh
from benchmarks.inference import PAPER, SPACING, embryo, iou, paper_bundle
from benchmarks.timing import Figure, figure, ratios
from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.core.instances.watershed import instances_from_masks
from qcanet_monai.core.measure.nuclei import nucleus_table
from qcanet_monai.core.resample import resample


@pytest.mark.parametrize("number", [1, 16, 60])
def test_metrics_from_one_table_are_those_of_loops_over_pairs(number):
    labels = arrays.nuclei(number)
    found = np.where(labels % 5 == 3, 0, np.roll(labels, 2, axis=2))
    assert arrays.scores(labels, found) == pytest.approx(reference.scores(labels, found))


def test_the_table_of_nuclei_is_that_of_loops_over_whole_volumes():
    labels = arrays.nuclei(40)
    table = nucleus_table(labels, spacing=SPACING)
    names = ("volume_um3", "surface_contact_um2", "surface_mesh_um2", *(f"centroid_{a}_um" for a in "zyx"))
    loops = np.array(list(reference.criteria(labels, SPACING)))
    assert len(loops) == 40
    for column, name in enumerate(names):
        np.testing.assert_allclose(table[name], loops[:, column], rtol=1e-4, err_msg=name)


def test_the_originals_patches_are_27_and_their_middles_cover_the_volume():
    shape = (112, 120, 122)
    assert len(reference.patches(shape)) == 27
    image = np.random.default_rng(0).random(shape, np.float32)
    assert (reference.mask(_Above(), image) == (image > 0.5)).all()


class _Above(nn.Module):
    """Two logits; the second is larger above one half."""

    def forward(self, x):
        return torch.cat([0.5 - x, x - 0.5], 1)


def test_one_pass_sees_what_the_original_sees_in_its_patches(tmp_path, monkeypatch):
    monkeypatch.setitem(PAPER["nsn"], "channels", 8)  # keeps the paper's field of view
    bundle, network = paper_bundle("nsn", tmp_path)
    image = embryo()[:22, :48, :60]
    cubic = reference.isotropic(image, SPACING)
    patches = reference.mask(network, cubic)
    predictor = Bundle(bundle).predictor(precision="fp32")
    whole = predictor.predict_foreground(torch.from_numpy(cubic)[None, None]) >= 0.5
    inside = (slice(22, -22),) * 3  # voxels that see no border of the volume
    assert iou(whole[inside], patches[inside]) > 0.999
    assert 0.01 < whole[inside].mean() < 0.99


def test_the_originals_watershed_gives_the_same_nuclei():
    region = arrays.nuclei(30) > 0
    centres = resample(region.astype(np.float32), region.shape) > 0.5
    centres &= np.random.default_rng(0).random(region.shape) < 0.002
    ours = instances_from_masks(region, reference.label(centres, connectivity=1), spacing=SPACING).labels
    theirs = reference.instances(region, centres, SPACING)
    assert ours.max() == theirs.max() > 20
    assert ((ours > 0) == (theirs > 0)).all()
    assert arrays.scores(theirs, ours)["seg"] > 0.97  # plateaus may be divided differently


def test_patches_of_which_some_are_timed_stand_for_all(monkeypatch):
    from benchmarks import inference

    monkeypatch.setattr(inference, "seconds", lambda work: work() is None or 2.0)
    monkeypatch.setattr(reference, "see", lambda _network, patch: patch.mean() > 0)
    assert inference.reference_seconds([nn.Identity(), nn.Identity()], embryo(), 3) == 2 * 27 * 2.0 + 2 * 2.0


@pytest.mark.slow
def test_the_cost_of_a_volume_is_told_by_the_voxel():
    found = fresh((112, 120, 130))
    assert found.voxels == 112 * 120 * 130
    assert found.seconds > 0
    assert found.pace > 0
    assert found.beyond > found.voxels * 4
    assert found.held > found.voxels * 2


FIGURES = [
    figure("times faster", [3.0, 1.0, 2.0], 2.0),
    figure("seconds", [0.5, 1.5, 4.0], 1.0, at_most=True),
    Figure("nuclei more or fewer", 0.0, 0.0, 0.0, 0.0, True),
]


def test_a_figure_is_a_median_with_its_span_held_to_a_target():
    assert [one.holds for one in FIGURES] == [True, False, True]
    assert str(FIGURES[0]) == "| times faster | 2 (1 to 3) | at least 2 | yes |"
    assert str(FIGURES[1]) == "| seconds | 1.5 (0.5 to 4) | at most 1 | NO |"
    assert ratios(lambda: 6.0, lambda: 2.0, 3) == [3.0, 3.0, 3.0]


def test_the_table_goes_into_a_file_and_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "figures", lambda quick: iter(FIGURES if quick else []))
    found, picture = tmp_path / "found.json", tmp_path / "found.png"
    monkeypatch.setattr(
        sys, "argv", ["benchmarks", "--quick", "--json", str(found), "--picture", str(picture)]
    )
    benchmark.main()
    assert capsys.readouterr().out.splitlines()[2:] == [str(one) for one in FIGURES]
    rows = json.loads(found.read_text(encoding="utf-8"))
    assert rows[1] == {
        "name": "seconds",
        "value": 1.5,
        "low": 0.5,
        "high": 4.0,
        "target": 1.0,
        "holds": False,
    }
    colours = imread(picture)[..., :3].reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 10


def test_a_paper_bundle_is_the_network_with_random_weights(tmp_path, monkeypatch):
    monkeypatch.setitem(PAPER["ndn"], "channels", 2)
    bundle, network = paper_bundle("ndn", tmp_path)
    predictor = Bundle(bundle).predictor()
    assert (network.depth, network.kernel_size) == (PAPER["ndn"]["depth"], PAPER["ndn"]["kernel_size"])
    state = network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in predictor.network.state_dict().items())
    assert (predictor.threshold, predictor.max_diameter_voxels) == (0.5, None)
