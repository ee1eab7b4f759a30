"""Segmentation end to end with the shipped weights, on simulated and real images."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from helpers import SHARED

from qcanet_monai.core.metrics.scores import evaluate
from qcanet_monai.core.resample import isotropic_shape, nuclear_diameter_um, resample, resample_labels
from qcanet_monai.core.scale import FACTOR
from qcanet_monai.errors import InputError, OutputError
from qcanet_monai.evaluation.evaluate import evaluate_labels
from qcanet_monai.io import Volume, read_csv, read_labels, read_volume, write_volume
from qcanet_monai.io.names import frames_of
from qcanet_monai.report.page import write_report
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.segmentation.segmenter import Segmenter
from qcanet_monai.simulator.series import simulate_series
from qcanet_monai.simulator.settings import Simulation
from qcanet_monai.timelapse.criteria import read_embryos, stated_interval
from qcanet_monai.timelapse.lineage import track

DATA = SHARED / "data"
SPACING = (1.75, 0.8, 0.8)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter()


@pytest.fixture(scope="module")
def frames():
    """Three time points of a simulated embryo that no training saw."""
    return list(simulate_series(12345, timepoints=5, spacing=SPACING, settings=Simulation()))[1:4]


def test_a_simulated_embryo_is_segmented(segmenter, frames, tmp_path):
    for i, frame in enumerate(frames):
        write_volume(tmp_path / f"t{i}.tif", frame.image, spacing=SPACING)
    out = tmp_path / "out"
    images = sorted(tmp_path.glob("*.tif"))
    result = segment_files(images, out, segmenter)
    assert not result.failures
    nuclei, timepoints = read_csv(out / "nuclei.csv"), read_csv(out / "timepoints.csv")
    for i, frame in enumerate(frames):
        found = read_labels(out / f"t{i}_labels.tif")
        assert found.array.shape == frame.image.shape
        assert found.spacing == pytest.approx(SPACING)
        n = int(found.array.max())
        assert np.array_equal(np.unique(found.array), np.arange(n + 1))
        assert (nuclei["frame"] == i).sum() == timepoints["n_nuclei"][i] == result.counts[images[i]] == n
        scores = evaluate(frame.instances, found.array, spacing=SPACING)
        assert scores["iou"] > 0.85
        assert scores["seg"] > 0.8
        assert scores["detection_f_3.28um"] > 0.85
    # voxel counts of the label image match the table's volumes
    first = read_labels(out / "t0_labels.tif").array
    counts = np.bincount(first.ravel())[1:]
    assert nuclei["volume_um3"][nuclei["frame"] == 0] == pytest.approx(counts * np.prod(SPACING), rel=1e-5)


def test_the_run_is_described(segmenter, frames, tmp_path):
    write_volume(tmp_path / "a.tif", frames[0].image[10:34, 30:78, 30:78], spacing=SPACING)
    segment_files([tmp_path / "a.tif"], tmp_path / "out", segmenter, spacing=SPACING)
    run = json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))
    assert run["models"]["nsn"]["version"]
    assert run["postprocessing"]["min_relative_intensity"] == 0.15
    assert run["postprocessing"]["recover_border"] is False
    assert run["models"]["ndn"]["precision"] in ("bf16", "fp32")
    assert run["spacing_um"] == list(SPACING)


def test_tables_keep_the_images_of_earlier_runs(segmenter, frames, tmp_path):
    small = [frame.image[10:26, 40:72, 40:72] for frame in frames[:2]]
    for name, image in zip(("a", "b"), small, strict=True):
        write_volume(tmp_path / f"{name}.tif", image, spacing=SPACING)
    for name in ("a", "b", "b"):
        segment_files([tmp_path / f"{name}.tif"], tmp_path / "out", segmenter)
    assert list(read_csv(tmp_path / "out/timepoints.csv")["image"]) == ["a", "b"]
    (tmp_path / "out/nuclei.csv").write_text("mine\n1\n")
    files = [p for p in (tmp_path / "out").iterdir() if p.is_file()]
    before = {p.name: p.read_bytes() for p in files}
    with pytest.raises(OutputError, match="other columns"):
        segment_files([tmp_path / "b.tif"], tmp_path / "out", segmenter)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()} == before


@pytest.fixture
def images(frames, tmp_path) -> list[Path]:
    paths = [tmp_path / f"t{i}.tif" for i in range(3)]
    for path, frame in zip(paths, frames, strict=True):
        write_volume(path, frame.image[10:34, 30:78, 30:78], spacing=SPACING)
    return paths


def test_a_rerun_does_only_what_is_missing_or_has_changed(segmenter, images, tmp_path, monkeypatch):
    seen = []
    look = Segmenter.__call__
    monkeypatch.setattr(Segmenter, "__call__", lambda s, v: seen.append(v.source.name) or look(s, v))
    out = tmp_path / "out"
    segment_files(images[:2], out, segmenter)
    for name in ("nuclei.csv", "timepoints.csv", "run.json"):  # as if killed before the end
        (out / name).unlink()
    result = segment_files(images, out, segmenter)
    assert sorted(seen) == ["t0.tif", "t1.tif", "t2.tif"]
    assert (result.kept, len(result.counts)) == (2, 3)
    segment_files(images, tmp_path / "fresh", segmenter)
    assert (out / "nuclei.csv").read_bytes() == (tmp_path / "fresh/nuclei.csv").read_bytes()

    seen.clear()
    images[1].write_bytes(images[2].read_bytes())
    (out / "t0_overlay.png").unlink()
    segment_files(images, out, segmenter)
    assert sorted(seen) == ["t0.tif", "t1.tif"]
    assert read_labels(out / "t1_labels.tif").array.max() == read_labels(out / "t2_labels.tif").array.max()

    seen.clear()
    segment_files(images, out, load_segmenter(recover_border=True))
    segment_files(images, out, segmenter, spacing=SPACING)
    segment_files(images, out, load_segmenter(test_time_augmentation=True), spacing=SPACING)
    assert len(seen) == 9


def test_one_call_per_image_gives_the_tables_of_one_call(segmenter, images, tmp_path):
    one, each = tmp_path / "one", tmp_path / "each"
    segment_files(images, one, segmenter, interval_min=10)
    for image in (images[1], images[2], images[0]):
        segment_files([image], each, segmenter, interval_min=10)
    segment_files([images[0]], each, segmenter)  # without the interval, which stays known
    for name in ("nuclei.csv", "timepoints.csv"):
        columns = [{**read_csv(out / name), "seconds": None} for out in (one, each)]
        assert [list(column) for column in columns[0]] == [list(column) for column in columns[1]]
        assert columns[0]["frame"].tolist() == columns[1]["frame"].tolist()
        assert columns[0]["image"].tolist() == columns[1]["image"].tolist()
    runs = [json.loads((out / "run.json").read_text(encoding="utf-8")) for out in (one, each)]
    assert runs[0]["images"] == runs[1]["images"]
    assert runs[1]["interval_min"] == 10


def test_the_results_of_another_image_with_the_same_name_are_never_replaced(segmenter, images, tmp_path):
    other = tmp_path / "tuesday"
    other.mkdir()
    (other / "t0.tif").write_bytes(images[1].read_bytes())
    out = tmp_path / "out"
    segment_files(images[:1], out, segmenter)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(OutputError, match=r"holds the results of .*t0\.tif, which has the name of .*tuesday"):
        segment_files([images[2], other / "t0.tif"], out, segmenter)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    moved = images[0].rename(tmp_path / "moved.tif")
    moved.rename(images[0])
    segment_files(images[:1], out, segmenter)  # the same image still has its place
    images[0].rename(tmp_path / "gone.tif")
    segment_files([other / "t0.tif"], out, segmenter)  # the other image is gone


@pytest.mark.slow
def test_what_was_done_is_kept_when_the_process_is_killed(images, tmp_path):
    out = tmp_path / "out"
    command = [Path(sys.executable).with_name("qcanet"), "segment", *images, "--out", out, "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def finished():
        return [path for path in out.glob(".done/t*.json") if "fingerprint" in path.read_text()]

    while not finished():
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    process.wait()
    n_done = len(finished())
    assert n_done < 3
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"{n_done} of 3 were done before" in again
    assert read_csv(out / "timepoints.csv")["image"].tolist() == ["t0", "t1", "t2"]
    assert len(list(out.glob("t?_labels.tif"))) == 3


def test_bad_frames_of_a_series_cost_only_themselves(segmenter, frames, tmp_path):
    names = [f"e_t{number}" for number in (1, 2, 3, 5, 6)]  # frame 4 is missing
    small = frames[1].image[10:34, 30:78, 30:78]
    for name in names:
        write_volume(tmp_path / f"{name}.tif", small, spacing=SPACING)
    good = (tmp_path / "e_t1.tif").read_bytes()
    (tmp_path / "e_t2.tif").write_bytes(good[: len(good) // 2])
    write_volume(tmp_path / "e_t3.tif", small[:, :40], spacing=SPACING)
    write_volume(tmp_path / "e_t5.tif", np.full_like(small, 7), spacing=SPACING)
    out = tmp_path / "out"
    result = segment_files([tmp_path / f"{name}.tif" for name in names], out, segmenter, interval_min=10)
    assert [path.stem for path in result.failures] == ["e_t2", "e_t5"]
    assert "no contrast" in result.failures[tmp_path / "e_t5.tif"]
    found = read_csv(out / "timepoints.csv")
    assert found["image"].tolist() == ["e_t1", "e_t3", "e_t6"]
    assert read_labels(out / "e_t3_labels.tif").array.shape == (24, 40, 48)
    (tracked,) = track(out)
    assert tracked.series.missing == [2, 4, 5]
    (embryo,) = read_embryos(out / "tracks")
    assert [row["time_h"] for row in embryo.timepoints] == pytest.approx([0, 1 / 3, 5 / 6])
    assert embryo.timepoints[0]["n_nuclei"] == embryo.timepoints[2]["n_nuclei"] == found["n_nuclei"][0]
    page = write_report(out).read_text(encoding="utf-8")
    assert "e: no image of frame 2, 4, 5" in page
    assert page.count("not segmented: ") == 2


def test_every_time_point_of_a_file_is_an_image(segmenter, frames, tmp_path):
    movie = np.stack([frame.image[10:34, 30:78, 30:78] for frame in frames])
    tifffile.imwrite(
        tmp_path / "movie.tif", movie, imagej=True, resolution=(1 / 0.8, 1 / 0.8),
        metadata={"axes": "TZYX", "spacing": 1.75, "unit": "um"},
    )  # fmt: skip
    for i in range(3):
        write_volume(tmp_path / f"alone_t{i:03d}.tif", movie[i], spacing=SPACING)
    alone = sorted(tmp_path.glob("alone*"))
    found = segment_files(frames_of([tmp_path / "movie.tif"]), tmp_path / "out", segmenter)
    expected = segment_files(alone, tmp_path / "out", segmenter)
    assert [*found.counts.values()] == [*expected.counts.values()]
    for i in range(3):
        one, other = (read_labels(tmp_path / f"out/{name}_t00{i}_labels.tif") for name in ("movie", "alone"))
        assert np.array_equal(one.array, other.array)
        assert one.spacing == pytest.approx(SPACING)


def write_zarr(folder, array):
    units = {"t": "minute"} | dict.fromkeys("zyx", "micrometer")
    scale = {"type": "scale", "scale": [5, *SPACING]}
    axes = [{"name": name, "type": "", "unit": unit} for name, unit in units.items()]
    level = {"path": "0", "coordinateTransformations": [scale]}
    made = zarr.create_array(
        str(folder / "0"), shape=array.shape, chunks=(1, *array.shape[1:]), dtype=array.dtype
    )
    made[:] = array
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (folder / "zarr.json").write_text(json.dumps(group))


def test_an_ome_zarr_series_is_segmented_and_scored_against_its_labels(segmenter, frames, tmp_path):
    path, out = tmp_path / "e.ome.zarr", tmp_path / "out"
    write_zarr(path, np.stack([frame.image[10:34, 30:78, 30:78] for frame in frames]))
    true = np.stack([frame.instances[10:34, 30:78, 30:78] for frame in frames])
    write_zarr(path / "labels/nuclei", true)
    segment_files(frames_of([path]), out, segmenter)
    assert stated_interval(out) == 5
    scores = evaluate_labels(out, path / "labels/nuclei")
    assert scores["e_t002"]["n_ref"] == len(np.unique(true[2])) - 1
    assert scores["mean"]["iou"] > 0.75  # crops cut through nuclei
    (embryo,) = read_embryos(path / "labels/nuclei")
    assert [row["time_h"] for row in embryo.timepoints] == pytest.approx([0, 1 / 12, 2 / 12])

    assert segment_files(frames_of([path]), out, segmenter).kept == 3
    zarr.open_array(str(path / "0"))[1] = frames[2].image[10:34, 30:78, 30:78]
    assert segment_files(frames_of([path]), out, segmenter).kept == 0  # the changed frame is unknown
    one, other = (read_labels(out / f"e_t00{i}_labels.tif").array for i in (1, 2))
    assert np.array_equal(one, other)


def test_images_side_by_side_give_what_they_give_one_by_one(segmenter, frames, tmp_path):
    threads = torch.get_num_threads()
    for i in range(3):
        write_volume(tmp_path / f"t{i}.tif", frames[i].image[10:34, 30:78, 30:78], spacing=SPACING)
    (tmp_path / "bad.tif").write_bytes(b"no image")
    images, seen = sorted(tmp_path.glob("*.tif")), []
    for workers in (1, 3):
        out = tmp_path / f"by{workers}"
        result = segment_files(images, out, segmenter, workers=workers, progress=seen.append)
        assert [*result.counts] == images[1:]
        assert [*result.failures] == images[:1]
        assert torch.get_num_threads() == threads
    assert seen == images * 2
    for name in ("nuclei.csv", *(f"t{i}_labels.tif" for i in range(3))):
        assert (tmp_path / "by1" / name).read_bytes() == (tmp_path / "by3" / name).read_bytes()


def test_without_ndn_the_masks_components_are_the_nuclei(segmenter, frames):
    from skimage.measure import label

    volume = Volume(frames[2].image, SPACING, Path("a.tif"))
    without = load_segmenter(ndn="none")(volume).labels
    nsn = segmenter.predictors["nsn"]
    assert nsn.max_diameter_voxels * 0.8 > nuclear_diameter_um(without, spacing=SPACING)  # one preview only
    mask = nsn.mask(segmenter.predict(segmenter.preprocess(volume), volume)[0][0])
    assert without.max() == label(mask, connectivity=1).max()
    assert np.array_equal(without > 0, mask)


@pytest.fixture(scope="module")
def large():
    """Two cells with nuclei 40 voxels across."""
    spacing = (1.2, 0.5, 0.5)
    settings = Simulation().changed({"view": {"first": 1.4, "last": 1.4, "width_um": 62, "depth_um": 62}})
    frame = next(simulate_series(3, timepoints=1, spacing=spacing, settings=settings))
    assert len(frame.numbers) == 2
    return Volume(frame.image, spacing, Path("large.tif")), frame.instances


def test_nuclei_larger_than_those_of_the_training_are_seen_on_a_coarser_grid(segmenter, large):
    volume, truth = large
    found = segmenter(volume).labels
    assert found.max() == truth.max() == 2
    assert evaluate(truth, found, spacing=volume.spacing)["seg"] > 0.75


class Network:
    """Network that finds a ball of 20 µm and records the grids of its inputs."""

    def __init__(self, diameter, edge=None):
        self.max_diameter_voxels, self.isotropic_spacing_um, self.asked = diameter, edge, []

    def preprocess(self, image, *, spacing, isotropic_spacing_um=None):
        self.asked.append(isotropic_spacing_um)
        edge = self.isotropic_spacing_um or isotropic_spacing_um
        shape = isotropic_shape(image.shape, spacing=spacing, isotropic_spacing_um=edge)
        edges = [n * s / m for n, s, m in zip(image.shape, spacing, shape, strict=True)]
        axes = ((np.arange(m) - m // 2) * edge for m, edge in zip(shape, edges, strict=True))
        return np.stack(np.meshgrid(*axes, indexing="ij"))[None]

    def preprocesses_as(self, _other):
        return False

    def predict(self, inputs):
        return self.predict_foreground(inputs)[None]

    def predict_foreground(self, inputs):
        z, y, x = inputs[0]
        return (z**2 + y**2 + x**2 < 10**2).astype(np.float32)

    def to_native(self, outputs, shape):
        return resample(outputs[0], shape)[None]

    def mask(self, probability):
        return probability > 0.5


class Dazzled(Network):
    """Network that finds foreground everywhere on coarse voxels."""

    def predict_foreground(self, inputs):
        seen = super().predict_foreground(inputs)
        return seen if self.asked[-1] in (None, 0.5) else np.ones_like(seen)


@pytest.mark.parametrize(
    ("nsn", "ndn", "on"),
    [
        (Network(30), Network(30), ([0.8, 0.67], [0.67])),  # 20 µm are 40 voxels of 0.5 µm
        (Network(50), Network(55), ([0.8, None], [None])),
        (Network(50), Network(20), ([0.8, None], [1.0])),
        (Network(30), Network(None), ([0.8, 0.67], [None])),  # NDN was not trained on coarser grids
        (Network(None), Network(None), ([None], [None])),
        (Network(30, 0.7), Network(30, 0.7), ([None], [None])),  # the bundles fix their grid
        # foreground that fills the whole preview is the body, not nuclei
        (Dazzled(50), Network(50), ([0.8, 0.5, None], [None])),
    ],
)
def test_each_network_looks_on_the_grid_of_its_own_training(segmenter, large, monkeypatch, nsn, ndn, on):
    monkeypatch.setattr(segmenter, "predictors", {"nsn": nsn, "ndn": ndn})
    segmenter(large[0])
    looks = [0.5 * FACTOR**step for step in range(2, 7)]  # the first, 0.8, is named above
    for network, wanted in zip((nsn, ndn), on, strict=True):
        asked = [one for one in network.asked if not any(one == pytest.approx(look) for look in looks)]
        assert asked == [None if one is None else pytest.approx(one, rel=0.1) for one in wanted]


def test_both_networks_share_what_they_see_alike(segmenter, frames):
    volume = Volume(frames[2].image[10:34, 30:78, 30:78], SPACING, Path("a.tif"))
    nsn, ndn = segmenter.predictors.values()
    assert ndn.preprocesses_as(nsn)
    inputs = segmenter.preprocess(volume)
    assert inputs[0] is inputs[1]
    region, centre = segmenter.predict(inputs, volume)
    assert np.array_equal(centre[0], ndn(volume.array, spacing=SPACING))
    assert region.shape == (1, *volume.array.shape)


def test_a_volume_without_nuclei_gives_an_empty_table(segmenter, tmp_path):
    noise = np.random.default_rng(0).poisson(20, (16, 32, 32)).astype(np.uint16)
    write_volume(tmp_path / "empty.tif", noise, spacing=SPACING)
    result = segment_files([tmp_path / "empty.tif"], tmp_path / "out", segmenter)
    assert not result.failures
    table = read_csv(tmp_path / "out/nuclei.csv")
    assert "volume_um3" in table
    assert len(table["label"]) == result.counts[tmp_path / "empty.tif"]


@pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not beside the project")
def test_the_real_16_cell_embryo_is_segmented_as_its_authors_did(segmenter):
    import importlib.util

    spec = importlib.util.spec_from_file_location("score", DATA.parent / "score.py")
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    folder = DATA / "qcanet_16cell"
    found = segmenter(read_volume(folder / "raw.tif", spacing=SPACING)).labels
    scores = score.scores(found, score.instances_from_masks(folder))
    assert scores["IoU"] > 0.70
    assert scores["SEG"] > 0.70
    assert 15 <= scores["n_pred"] <= 17


REAL = {
    "neubias_nuclei/raw.tif": None,
    "ovule_nuclei_1135/raw.tif": None,
    "blastocysts_dapi/E3.5_embryo_13.tif": (2.01, 0.48, 0.48),
}


def test_a_simulated_tissue_on_another_microscope_is_segmented(segmenter):
    spacing = (2.0, 0.5, 0.5)
    settings = Simulation().changed({"view": {"width_um": 40, "depth_um": 40}}).with_tissue(1)
    frame = next(simulate_series(11, timepoints=1, spacing=spacing, settings=settings))
    found = segmenter(Volume(frame.image, spacing, Path("tissue.tif"))).labels
    scores = evaluate(frame.instances, found, spacing=spacing)
    assert scores["n_ref"] > 8
    assert scores["seg"] > 0.6


@pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not beside the project")
@pytest.mark.parametrize("name", REAL)
def test_images_of_other_kinds_run_through(segmenter, name):
    volume = read_volume(DATA / name, spacing=REAL[name])
    found = segmenter(volume)
    assert found.labels.shape == volume.array.shape
    assert len(found.table["label"]) > 0


@pytest.mark.parametrize(
    ("zoom", "least"), [(0.67, 0.8), (1.5, 0.9), (2.5, 0.9)]
)  # coarser voxels lose detail
def test_the_same_picture_on_other_voxels_has_the_same_nuclei(segmenter, frames, zoom, least):
    volume = Volume(frames[2].image, SPACING, Path("a.tif"))
    shape = tuple(round(n * zoom) for n in volume.array.shape)
    spacing = tuple(s * n / m for s, n, m in zip(SPACING, volume.array.shape, shape, strict=True))
    plain, other = segmenter(volume), segmenter(Volume(resample(volume.array, shape), spacing, Path("a.tif")))
    assert plain.labels.max() == other.labels.max() == frames[2].instances.max()
    one, two = plain.labels > 0, resample_labels(other.labels, volume.array.shape) > 0
    assert (one & two).sum() / (one | two).sum() > least
    assert other.scale.diameter_um == pytest.approx(plain.scale.diameter_um, rel=0.1)
    assert not plain.doubts
    assert not other.doubts


def test_noise_is_doubted(segmenter):
    noise = np.random.default_rng(1).poisson(20, (24, 64, 64)).astype(np.uint16)
    found = segmenter(Volume(noise, SPACING, Path("noise.tif")))
    assert not found.labels.any() or "hardly differ from the noise" in found.doubts[0]


def test_a_tighter_outline_gives_smaller_nuclei_with_an_error(segmenter, frames):
    image = Volume(frames[0].image, frames[0].spacing, Path("frame"))
    found = [segmenter(image), *(load_segmenter(outline=outline)(image) for outline in ("half", 0.8))]
    volumes = [one.table["volume_um3"].sum() for one in found]
    assert volumes[0] > 1.1 * volumes[1] > 1.1 * 1.1 * volumes[2]
    for one in found:
        share = one.table["volume_sd_um3"] / one.table["volume_um3"]
        assert ((share > 0.02) & (share < 0.6)).all()
    assert load_segmenter(outline="half").describe()["postprocessing"]["outline"] == "half"
    with pytest.raises(InputError, match="expected an outline of annotator, half, tight"):
        load_segmenter(outline="loose")
