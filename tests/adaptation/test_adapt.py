"""Adaptation to an image: all or nothing, and on a grid that suits its nuclei."""

import json
import logging
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from ignite.engine import Engine
from numpy.testing import assert_array_equal
from PIL import Image

from qcanet_monai.adaptation import adapt as module
from qcanet_monai.adaptation import estimates as limits
from qcanet_monai.adaptation import fine_tune as tuning
from qcanet_monai.adaptation.abc_inference import Posterior
from qcanet_monai.adaptation.adapt import Read, adapt, training_for
from qcanet_monai.adaptation.estimates import estimates
from qcanet_monai.adaptation.fine_tune import Scores, fine_tune, steps_of
from qcanet_monai.adaptation.image_part import part_of, prior_for
from qcanet_monai.adaptation.synthetic_matches import SyntheticMatch
from qcanet_monai.bundle.bundle import SHIPPED, Bundle
from qcanet_monai.core.appearance import appearance
from qcanet_monai.errors import InputError, ModelError
from qcanet_monai.inference.weights import load_weights
from qcanet_monai.io import Volume
from qcanet_monai.nn.unet import UNet3D
from qcanet_monai.plot.synthetic_matches import Row, write_synthetic_matches
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.simulator.series import simulate_frame
from qcanet_monai.simulator.settings import GROUPS, read_simulation
from qcanet_monai.training.export import export_bundle, set_knobs

SHAPE, SPACING = (16, 48, 48), (2.0, 1.0, 1.0)
NAMES = ("nsn", "ndn")
WHOLE = {"nsn", "ndn", "simulation.yaml", "twins.png", "adapt.json"}


def volume(array, spacing=SPACING, name="in/a.tif") -> Volume:
    return Volume(array, spacing, Path(name))


@pytest.fixture(scope="module")
def image() -> Volume:
    """Simulate an embryo of about 8 cells."""
    settings = prior_for(2.0).changed(
        {"view": {"lateral_um": 1.0, "first": 3.0, "oval": 0}, "growth": {"kind": "embryo", "radius_um": 20}}
    )
    return volume(simulate_frame((3,), settings=settings, shape=SHAPE).image)


@pytest.fixture(scope="module")
def starts(tmp_path_factory) -> Path:
    """Write small NSN and NDN bundles with random weights and small patches."""
    folder = tmp_path_factory.mktemp("starts")
    for name in NAMES:
        bundle = export_bundle(SHIPPED / name, folder / name, {"depth": 1, "channels": 2})
        train = bundle / "configs/train.yaml"
        knobs = {"patch_size": 16, "workers": 0}
        train.write_text(set_knobs(train.read_text(encoding="utf-8"), knobs, train), encoding="utf-8")
        torch.manual_seed(0)
        torch.save(UNet3D(depth=1, channels=2).state_dict(), bundle / "models/model.pt")
    return folder


class Stages:
    """Names and lengths of stages, and the number of steps of each."""

    def __init__(self):
        self.seen: dict[str, list[int]] = {}

    @contextmanager
    def __call__(self, what, total):
        assert what not in self.seen
        self.seen[what] = [total, 0]

        def move():
            self.seen[what][1] += 1

        yield move


# end to end


@pytest.fixture(scope="module")
def adapted(image, starts, tmp_path_factory):
    """Run a whole adaptation with tiny numbers; keep its result, stages and folder."""
    out, stages = tmp_path_factory.mktemp("adapted") / "new" / "out", Stages()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "_MAX_OOD_SCORE", np.inf)  # too few matches for a reliable score
        patch.setattr(limits, "_VAGUEST", np.inf)
        patch.setattr(tuning, "_VALIDATION", (2, 2))
        result = adapt(
            [image],
            out,
            nsn=starts / "nsn",
            ndn=starts / "ndn",
            steps=2,
            rounds=(12, 12),
            workers=1,
            stage=stages,
        )
    return SimpleNamespace(out=out, result=result, stages=stages.seen)


def test_an_adaptation_is_whole_and_leaves_nothing_else(adapted):
    assert adapted.result.folder == adapted.out
    assert {path.name for path in adapted.out.iterdir()} == WHOLE
    assert [path.name for path in adapted.out.parent.iterdir()] == ["out"]
    names = {path.name for path in adapted.out.rglob("*")}
    assert not names & {"last.pt", "train.log", "validation", "mlflow.db"}
    assert not [name for name in names if name.startswith(".")]


def test_both_networks_segment_the_image(adapted, image):
    segmenter = load_segmenter(nsn=adapted.out / "nsn", ndn=adapted.out / "ndn")
    assert [one.network.depth for one in segmenter.predictors.values()] == [1, 1]
    assert segmenter(image).labels.shape == SHAPE


def test_no_file_names_the_folder_that_it_was_made_in(adapted):
    for path in adapted.out.rglob("*"):
        if path.suffix in (".yaml", ".json"):
            assert "/.out-" not in path.read_text(encoding="utf-8"), path


def test_the_simulation_draws_the_images_kind(adapted):
    settings = read_simulation(adapted.out / "simulation.yaml")
    frame = simulate_frame((0,), settings=settings)
    assert frame.image.shape == SHAPE
    assert frame.spacing[0] / frame.spacing[2] == pytest.approx(2)
    text = (adapted.out / "simulation.yaml").read_text(encoding="utf-8")
    assert text.startswith("# qcanet simulate DIR --settings simulation.yaml\n")


def test_scores_never_fall(adapted):
    scores = adapted.result.scores
    assert {name: score.metric for name, score in scores.items()} == {"nsn": "iou", "ndn": "detection_f"}
    for score in scores.values():
        assert 0 <= score.before <= score.after <= 1


def test_the_record_holds_what_was_read_and_what_was_done(adapted, starts, image):
    text = (adapted.out / "adapt.json").read_text(encoding="utf-8")
    record = json.loads(text, parse_constant=pytest.fail)
    (entry,) = record["images"]
    assert entry["image"] == str(image.source)
    assert entry["spacing_um"] == list(SPACING)
    assert entry["ood_score"] > 0
    estimate = adapted.result.estimates[str(image.source)]
    assert entry["estimates"]["kind"] == estimate.kind
    assert entry["estimates"]["diameter_um"] == pytest.approx(estimate.diameter_um._asdict())
    assert record["scores_on_simulated_twins"]["nsn"] == adapted.result.scores["nsn"]._asdict()
    assert (record["steps"], record["seed"], record["grid_um"]) == (2, 0, adapted.result.grid)
    assert record["start"] == {name: str(starts / name) for name in NAMES}


def test_the_picture_shows_the_image_and_two_twins(adapted, image, tmp_path):
    write_synthetic_matches(tmp_path / "one.png", [Row("a.tif", image.array, SPACING)], title="")
    one, three = (np.asarray(Image.open(path)) for path in (tmp_path / "one.png", adapted.out / "twins.png"))
    header, margin = 44, 16
    tall = len(one) - header - margin
    assert len(three) == header + 3 * tall + margin
    rows = [three[header + i * tall : header + (i + 1) * tall] for i in range(3)]
    assert_array_equal(rows[0], one[header : header + tall])
    assert not np.array_equal(rows[1][26:], rows[0][26:])  # below their captions
    assert not np.array_equal(rows[1][26:], rows[2][26:])


def test_every_stage_moves_to_its_end(adapted):
    assert adapted.stages == {
        "looking at a.tif": [24, 24],
        "training NSN": [2, 2],
        "training NDN": [2, 2],
    }


# everything but inference and training


def twin(part, *, diameter=12.0, nuclei=5, seed=(0,), **changes) -> SyntheticMatch:
    """Make a synthetic match of the image with settings only."""
    simulation = prior_for(2.0).changed({"view": {"lateral_um": 0.8, "first": 3.0, "oval": 0}} | changes)
    recording = simulation.draw(seed)
    settings = {
        f"{group}.{name}": getattr(getattr(recording, group), name)
        for group in GROUPS
        for name in getattr(simulation, group)
    }
    looks = appearance(part, spacing=SPACING)
    return SyntheticMatch(seed, simulation, settings, looks, nuclei, diameter)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Adapt with inference and training replaced by stubs that record their inputs."""
    noted = SimpleNamespace(looked=[], trained=[], diameter=12.0, ood_score=1.0, worse=False)

    def abc_inference(part, prior, **_options):
        noted.looked.append(part)
        twins = [twin(part, diameter=noted.diameter, seed=(i,)) for i in range(2)]
        return Posterior(twins, prior, noted.ood_score)

    def fine_tune(start, folder, **options):
        noted.trained.append(options)
        shutil.copytree(start.folder, folder)
        return Scores("iou", 0.5, 0.6)

    monkeypatch.setattr(module, "abc_inference", abc_inference)
    monkeypatch.setattr(module, "fine_tune", fine_tune)
    monkeypatch.setattr(module, "is_worse", lambda *_: noted.worse)
    noted.out = tmp_path / "out"
    noted.run = lambda volumes, **options: adapt(volumes, noted.out, **options)
    return noted


def refused(quick, volumes, match, error=InputError, **options):
    """Check that an error in one line comes before any work."""
    before = sorted(quick.out.parent.rglob("*"))
    with pytest.raises(error, match=match) as caught:
        quick.run(volumes, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert not quick.looked
    assert not quick.trained
    assert sorted(quick.out.parent.rglob("*")) == before


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(quick, image, steps):
    refused(quick, [image], f"at least 1 step, got {steps}", steps=steps)


def test_a_folder_that_holds_files_is_refused_before_any_work(quick, image):
    quick.out.mkdir()
    (quick.out / "mine.txt").write_text("mine")
    refused(quick, [image], "new or empty folder.*choose another")
    assert (quick.out / "mine.txt").read_text() == "mine"


def test_a_file_in_the_folders_place_is_refused(quick, image):
    quick.out.write_text("mine")
    refused(quick, [image], "new or empty folder")
    assert quick.out.read_text() == "mine"


@pytest.mark.parametrize("reference", ["best", "none"])
def test_a_reference_that_is_none_is_refused_before_any_work(quick, image, reference):
    refused(quick, [image], f"got '{reference}'", error=ModelError, ndn=reference)


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.2), (2.0, 1.2, 1.0), (0.2, 1.0, 1.0), (21.0, 1.0, 1.0)])
def test_voxels_that_no_microscope_has_are_refused(quick, image, spacing):
    refused(quick, [volume(image.array, spacing)], r"a\.tif: expected voxels as wide .* --spacing")


def test_images_of_unlike_voxels_are_refused(quick, image):
    volumes = [image, volume(image.array, (3.0, 1.0, 1.0), "in/b.tif")]
    refused(quick, volumes, r"b\.tif: expected the voxel size of in/a\.tif.* one microscope at a time")


def test_images_whose_voxels_differ_in_size_alone_are_taken(quick, image):
    quick.run([image, volume(image.array, (1.0, 0.5, 0.5), "in/b.tif")])
    assert len(quick.looked) == 2


@pytest.mark.parametrize("shape", [(5, 48, 48), (16, 31, 48), (16, 48, 31)])
def test_a_small_image_is_refused_before_any_work(quick, shape):
    array = np.random.default_rng(0).integers(0, 900, shape).astype(np.uint16)
    refused(
        quick, [volume(array)], rf"a\.tif: expected at least \(6, 32, 32\) voxels.*{shape[0]}, {shape[1]}"
    )


def test_a_uniform_image_is_refused_before_any_work(quick):
    refused(quick, [volume(np.full(SHAPE, 7, np.uint16))], r"a\.tif: expected an image with nuclei")


def test_a_strange_image_is_refused_and_nothing_is_written(quick, image):
    quick.ood_score = 9.0
    with pytest.raises(InputError, match=r"a\.tif: expected an image that the simulator can draw"):
        quick.run([image])
    assert not quick.trained
    assert list(quick.out.parent.iterdir()) == []


def test_a_part_of_an_image_is_all_of_a_small_one():
    array = np.random.default_rng(0).integers(0, 900, (20, 100, 128)).astype(np.uint16)
    part = part_of(volume(array))
    assert_array_equal(part, array)


@pytest.mark.parametrize("corner", [(0, 0, 0), (6, 72, 172), (0, 36, 86)])
def test_a_part_of_a_large_image_lies_where_it_is_liveliest(corner):
    array = np.full((70, 200, 300), 500, np.uint16)
    z, y, x = (slice(c, c + n) for c, n in zip(corner, (64, 128, 128), strict=True))
    array[z, y, x] = np.random.default_rng(0).integers(100, 901, (64, 128, 128))
    part = part_of(volume(array))
    assert part.flags.c_contiguous
    assert_array_equal(part, array[z, y, x])


def test_at_most_four_images_are_looked_at_evenly_spread(quick, image):
    volumes = [volume(image.array + np.uint16(i), name=f"in/{i}.tif") for i in range(10)]
    result = quick.run(volumes)
    assert list(result.estimates) == [f"in/{i}.tif" for i in (0, 3, 6, 9)]
    assert [int((part - image.array).max()) for part in quick.looked] == [0, 3, 6, 9]
    record = json.loads((quick.out / "adapt.json").read_text(encoding="utf-8"))
    assert len(record["images"]) == 4


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_images_are_all_looked_at(quick, image, count):
    volumes = [volume(image.array, name=f"in/{i}.tif") for i in range(count)]
    assert len(quick.run(volumes).estimates) == len(quick.looked) == count


def test_an_empty_folder_is_filled_and_a_missing_one_made(quick, image, tmp_path):
    quick.out.mkdir()
    quick.run([image])
    assert {path.name for path in quick.out.iterdir()} == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    quick.out = tmp_path / "a" / "b"
    quick.run([image])
    assert {path.name for path in quick.out.iterdir()} == WHOLE


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["write_synthetic_matches", "fine_tune", "write_json"])
@pytest.mark.parametrize("there", [True, False])
def test_a_failure_on_the_way_leaves_nothing(quick, image, error, where, there, monkeypatch):
    reached = []
    whole = getattr(module, where)

    def fail(*arguments, **options):
        reached.append(where)
        if where == "fine_tune" and len(reached) == 1:  # in the second training
            return whole(*arguments, **options)
        raise error("on the way")

    if there:
        quick.out.mkdir()
    monkeypatch.setattr(module, where, fail)
    with pytest.raises(error, match="on the way"):
        quick.run([image])
    assert reached
    assert [path.name for path in quick.out.parent.iterdir()] == (["out"] if there else [])
    assert not there or list(quick.out.iterdir()) == []


def knob(folder, name="isotropic_spacing_um"):
    found = {
        yaml.safe_load((folder / bundle / "configs" / f"{config}.yaml").read_text(encoding="utf-8"))[name]
        for bundle in NAMES
        for config in ("train", "inference")
    }
    (value,) = found
    return value


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (0.5, 0.25, 0.25), (0.5, 1.0, 1.0)])
@pytest.mark.parametrize("diameter", [10.0, 12.0, 40.0])
def test_nuclei_that_are_not_small_are_left_to_the_networks(quick, image, diameter, spacing):
    quick.diameter = diameter
    result = quick.run([volume(image.array, spacing)])
    assert result.grid is None
    assert knob(quick.out) is None
    assert [options["isotropic_spacing_um"] for options in quick.trained] == [None, None]


@pytest.mark.parametrize("edge", [1.0, 0.25])
@pytest.mark.parametrize("diameter", [7.0, 5.0])
def test_small_nuclei_are_seen_on_a_finer_grid(quick, image, diameter, edge):
    quick.diameter = diameter
    result = quick.run([volume(image.array, (2 * edge, edge, edge))])
    assert result.grid == pytest.approx(diameter * edge / 9, abs=1e-4)  # in image µm, for 9 voxels across
    assert knob(quick.out) == result.grid
    lateral = read_simulation(quick.out / "simulation.yaml").view["lateral_um"].always
    assert lateral == 0.8
    # the matches are trained on in their own µm
    assert [options["isotropic_spacing_um"] for options in quick.trained] == pytest.approx(
        [diameter * 0.8 / 9] * 2, rel=1e-3
    )
    record = json.loads((quick.out / "adapt.json").read_text(encoding="utf-8"))
    assert record["grid_um"] == result.grid


def test_networks_that_are_worse_on_the_images_are_given_up_for_the_initial_ones(quick, image, starts):
    quick.diameter, quick.worse = 5.0, True
    result = quick.run([image], nsn=starts / "nsn", ndn=starts / "ndn")
    assert not result.kept
    assert result.grid is None
    assert knob(quick.out) is None
    for name in NAMES:
        one, other = ((folder / name / "models/model.pt").read_bytes() for folder in (starts, quick.out))
        assert one == other
    record = json.loads((quick.out / "adapt.json").read_text(encoding="utf-8"))
    assert record["kept"] is False
    assert set(record["agreement_on_images"]) == {"initial", "adapted"}


def test_seed_and_steps_are_handed_to_both_trainings(quick, image):
    quick.run([image], seed=5, steps=7)
    assert [options["seed"] for options in quick.trained] == [5, 5]
    assert [options["steps"] for options in quick.trained] == [7, 7]


# training data


def seen(image, twins) -> Read:
    posterior = Posterior(twins, prior_for(2.0), 1.0)
    return Read(image, image.array, posterior, estimates(posterior, image.array, image.spacing))


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.7, 20.0])
def test_the_prior_has_the_images_voxels_and_no_size(ratio):
    drawn = [prior_for(ratio).draw((i,)) for i in range(20)]
    assert {recording.view.anisotropy for recording in drawn} == {ratio}
    edges = [recording.view.lateral_um for recording in drawn]
    assert max(edges) > 1.5 * min(edges)


@pytest.mark.parametrize("shape", [SHAPE, (6, 32, 32), (9, 40, 33)])
def test_training_volumes_are_as_large_as_the_image(shape):
    array = np.random.default_rng(0).integers(0, 900, shape).astype(np.uint16)
    own = volume(array)
    training = training_for(prior_for(2.0), [seen(own, [twin(array, seed=(i,)) for i in range(4)])])
    for i in range(2):
        frame = simulate_frame((i,), settings=training)
        assert frame.image.shape == (shape[0], max(shape[1:]), max(shape[1:]))
        assert frame.spacing == pytest.approx((1.6, 0.8, 0.8))


def test_training_covers_the_stages_before_and_after_the_images(image):
    stages = np.linspace(2, 4, 11)
    twins = [twin(image.array, view={"lateral_um": 0.8, "first": float(s), "oval": 0}) for s in stages]
    view = training_for(prior_for(2.0), [seen(image, twins)]).view
    # 10th to 90th percentile, widened on both sides
    assert view["first"].always == pytest.approx(2.2 - 1.2)
    assert view["last"].always == pytest.approx(3.8 + 0.8)


@pytest.mark.parametrize(("stage", "first", "last"), [(0.3, 0.1, 1.1), (6.5, 5.3, 7.0)])
def test_stages_end_where_the_simulator_does(image, stage, first, last):
    twins = [twin(image.array, view={"lateral_um": 0.8, "first": stage, "oval": 0})]
    view = training_for(prior_for(2.0), [seen(image, twins)]).view
    assert (view["first"].always, view["last"].always) == pytest.approx((first, last))


def test_all_images_are_trained_on_together(image):
    kinds = ("embryo", "tissue")
    images = [seen(image, [twin(image.array, growth={"kind": kind})]) for kind in kinds]
    kind = training_for(prior_for(2.0), images).growth["kind"]
    assert kind.choices == {"embryo": 0.5, "tissue": 0.5}


# short training


@pytest.mark.parametrize(("steps", "taken"), [(1, 1), (6, 6), (39, 39), (41, 42), (61, 63), (120, 120)])
def test_steps_fill_whole_epochs(steps, taken):
    assert steps_of(steps) == taken


class Workflow:
    """A training of one step per epoch that ends with a given metric."""

    def __init__(self, folder, before, after):
        self.folder, self.after, self.asked = folder, after, None
        state = SimpleNamespace(key_metric_name="iou", metrics={})
        self.trainer = Engine(lambda _engine, _batch: None)
        self.evaluator = SimpleNamespace(
            logger=logging.getLogger("unheard"), state=state, run=lambda: state.metrics.update(iou=before)
        )
        self.parser = SimpleNamespace(get_parsed_content=self.get)

    def get(self, key):
        return {"train#trainer": self.trainer, "validate#evaluator": self.evaluator}[key]

    def initialize(self):
        (self.folder / "models").mkdir(parents=True)

    def run(self):
        epochs = self.asked["epochs"]
        self.trainer.run([0] * (self.asked["volumes_per_epoch"] // 2), max_epochs=epochs)
        (self.folder / "models/model.pt").write_text("trained")
        (self.folder / "train.log").write_text("log")
        torch.save({"best": self.after}, self.folder / "last.pt")


def tuned(monkeypatch, starts, folder, before, after, **options):
    workflow = Workflow(folder, before, after)

    def asked(start, *overlays, **overrides):
        assert (start.folder, overlays) == (starts / "nsn", ("simulated",))
        workflow.asked = overrides
        return workflow

    monkeypatch.setattr(Bundle, "workflow", asked)
    options = {"settings": Path("simulation.yaml"), "steps": 3} | options
    return workflow, fine_tune(Bundle(starts / "nsn"), folder, **options)


def test_better_weights_are_kept(monkeypatch, starts, tmp_path):
    _, scores = tuned(monkeypatch, starts, tmp_path / "nsn", 0.5, 0.7)
    assert scores == Scores("iou", 0.5, 0.7)
    assert (tmp_path / "nsn/models/model.pt").read_text() == "trained"
    assert not {path.name for path in (tmp_path / "nsn").iterdir()} & {"last.pt", "train.log"}


@pytest.mark.parametrize("after", [0.5, 0.3, float("-inf")])
def test_weights_that_are_no_better_give_way_to_those_begun_with(monkeypatch, starts, tmp_path, after):
    _, scores = tuned(monkeypatch, starts, tmp_path / "nsn", 0.5, after)
    assert scores == Scores("iou", 0.5, 0.5)
    begun = (starts / "nsn/models/model.pt").read_bytes()
    assert (tmp_path / "nsn/models/model.pt").read_bytes() == begun
    load_weights(UNet3D(depth=1, channels=2), tmp_path / "nsn/models/model.pt")


@pytest.mark.parametrize("steps", [1, 10, 41, 61])
def test_a_training_takes_its_steps_each_of_two_volumes(monkeypatch, starts, tmp_path, steps):
    moved = []
    workflow, _ = tuned(
        monkeypatch, starts, tmp_path / "nsn", 0.5, 0.7, steps=steps, progress=lambda: moved.append(1)
    )
    assert len(moved) == steps_of(steps)
    assert workflow.asked["volumes_per_epoch"] * workflow.asked["epochs"] == 2 * steps_of(steps)
    assert workflow.asked["pretrained"] == str(starts / "nsn/models/model.pt")
    assert "isotropic_spacing_um" not in workflow.asked


def test_a_grid_is_handed_to_the_training(monkeypatch, starts, tmp_path):
    workflow, _ = tuned(monkeypatch, starts, tmp_path / "nsn", 0.5, 0.7, isotropic_spacing_um=1.5)
    assert workflow.asked["isotropic_spacing_um"] == 1.5


def test_a_bundle_that_cannot_be_trained_on_simulated_volumes_is_refused(starts, tmp_path):
    start = shutil.copytree(starts / "nsn", tmp_path / "old")
    (start / "configs/simulated.yaml").unlink()
    with pytest.raises(ModelError, match=r"configs/simulated\.yaml, got .*old"):
        fine_tune(Bundle(start), tmp_path / "new", settings=Path("s.yaml"), steps=3)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("missing", ["configs/simulated.yaml", "models/model.pt"])
def test_a_bundle_that_cannot_be_trained_is_refused_before_any_work(quick, image, starts, tmp_path, missing):
    start = shutil.copytree(starts / "ndn", tmp_path / "old")
    (start / missing).unlink()
    refused(quick, [image], f"{missing}, got .*old", error=ModelError, ndn=start)
