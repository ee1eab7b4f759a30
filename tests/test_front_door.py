"""Public Python interface: lazy, and few lines from array to labels and table."""

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

import qcanet_monai as qcanet
from qcanet_monai.errors import InputError, OutputError
from qcanet_monai.io import read_csv, read_labels, write_volume
from qcanet_monai.simulator.series import simulate_frame

SPACING = (1.75, 0.8, 0.8)
ROOT = Path(__file__).parents[1]
SLOW = {"tune"}  # trains whole studies


@pytest.fixture(scope="module")
def model():
    return qcanet.load("qcanet")


@pytest.fixture(scope="module")
def image():
    return simulate_frame((12345, 3), spacing=SPACING).image[10:34, 20:84, 20:84]


def test_the_package_imports_without_torch_and_lists_its_functions():
    code = "import qcanet_monai, sys; assert 'torch' not in sys.modules; print(*dir(qcanet_monai))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(qcanet.__all__) <= set(done.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'segmant'"):
        qcanet.segmant  # noqa: B018


def test_an_array_becomes_labels_and_a_table_in_three_lines(model, image):
    result = model.segment(image, spacing=SPACING)
    assert result.labels.shape == image.shape
    assert isinstance(result.nuclei, pd.DataFrame)
    assert result.nuclei["label"].tolist() == list(range(1, result.labels.max() + 1))
    assert {"volume_um3", "surface_mesh_um2", "centroid_z_um", "confidence"} <= set(result.nuclei)


def test_an_array_a_volume_and_a_file_give_the_same(model, image, tmp_path):
    path = tmp_path / "embryo.tif"
    write_volume(path, image, spacing=SPACING)
    ways = [(image, {"spacing": SPACING}), (qcanet.read_image(path), {}), (path, {}), (str(path), {})]
    first, *others = (model.segment(given, **options).labels for given, options in ways)
    assert first.max() > 0
    for other in others:
        assert np.array_equal(first, other)


def test_what_is_saved_is_what_the_command_writes(model, image, tmp_path, request):
    command = request.getfixturevalue("qcanet")
    path = tmp_path / "embryo.tif"
    write_volume(path, image, spacing=SPACING)
    assert command("segment", path, "--out", tmp_path / "cli").returncode == 0
    model.segment(path).save(tmp_path / "python")
    names = {one.name for one in (tmp_path / "cli").iterdir()} - {".done"}
    assert {one.name for one in (tmp_path / "python").iterdir()} == names
    for name in ("embryo_labels.tif", "embryo_overlay.png", "nuclei.csv"):
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "cli" / name).read_bytes(), name
    times = [read_csv(tmp_path / way / "timepoints.csv") for way in ("cli", "python")]
    assert [*times[0]] == [*times[1]]
    assert times[1]["seconds"] > 0


def test_images_saved_one_by_one_are_tracked(model, image, tmp_path):
    for frame in range(2):
        model.segment(image, spacing=SPACING).save(tmp_path, name=f"embryo_t{frame}")
    (series,) = qcanet.track(tmp_path, max_distance_um=5)
    labels = read_labels(tmp_path / "embryo_t0_labels.tif").array
    assert len(series.tracks) == labels.max()


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        (np.ones((3, 4, 4, 4)), {"spacing": SPACING}, "expected grey values"),
        (np.full((4, 4, 4), "a"), {"spacing": SPACING}, "expected grey values"),
        (np.arange(64).reshape(4, 4, 4), {}, "give spacing="),
        (np.arange(64).reshape(4, 4, 4), {"spacing": (1, 2)}, "3 finite positive numbers"),
        (np.ones((4, 4, 4)), {"spacing": SPACING}, "array"),
    ],
)
def test_an_image_that_is_none_is_refused(model, image, options, said):
    with pytest.raises(InputError, match=said):
        model.segment(image, **options)


def test_a_result_without_a_file_needs_a_name_and_a_folder_of_other_tables_is_left(model, image, tmp_path):
    result = model.segment(image, spacing=SPACING)
    with pytest.raises(InputError, match="name="):
        result.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "nuclei.csv").write_text("mine\n1\n")
    with pytest.raises(OutputError, match="other columns"):
        result.save(tmp_path, name="embryo")
    assert [path.name for path in tmp_path.iterdir()] == ["nuclei.csv"]


def test_labels_are_scored_as_arrays_volumes_and_files(tmp_path):
    truth = np.zeros((8, 16, 16), np.uint16)
    truth[2:6, 2:8, 2:8] = 1
    found = np.roll(truth, 1, axis=2)
    scores = qcanet.evaluate(found, truth, spacing=(2.0, 1.0, 1.0))
    assert scores["iou"] == pytest.approx(5 / 7)
    for name, labels in (("found.tif", found), ("truth.tif", truth)):
        write_volume(tmp_path / name, labels, spacing=(2.0, 1.0, 1.0))
    volumes = [qcanet.read_labels(tmp_path / name) for name in ("found.tif", "truth.tif")]
    assert qcanet.evaluate(*volumes) == scores
    assert qcanet.evaluate(tmp_path / "found.tif", tmp_path / "truth.tif")["found"] == scores
    with pytest.raises(InputError, match="one of each"):
        qcanet.evaluate(found, tmp_path / "truth.tif")


def examples():
    """Collect the examples of every public function and method."""
    finder = doctest.DocTestFinder(recurse=False)
    yield "qcanet_monai", finder.find(qcanet, "qcanet_monai")[0]
    for name in qcanet.__all__:
        public = getattr(qcanet, name)
        methods = inspect.getmembers(public, inspect.isfunction) if inspect.isclass(public) else []
        for label, one in [(name, public), *((f"{name}.{key}", method) for key, method in methods)]:
            for test in finder.find(one, label):
                if test.examples:
                    yield label, test


@pytest.mark.parametrize(
    "test",
    [pytest.param(test, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, test in examples()],
)
def test_an_example_gives_what_it_says(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert runner.run(test).failed == 0


@pytest.mark.parametrize("name", [name for name in qcanet.__all__ if name[0].islower()])
def test_a_public_function_says_what_it_takes_and_shows_an_example(name):
    function = getattr(qcanet, name)
    text = inspect.getdoc(function)
    for heading in ("Parameters\n---", "Raises\n---", "Examples\n---"):
        assert heading in text, heading
    for parameter in inspect.signature(function).parameters:
        assert parameter in text, parameter


def test_the_commands_take_what_the_functions_take():
    pairs = {"segment": [qcanet.load], "simulate": [qcanet.simulate], "track": [qcanet.track]}
    pairs |= {"promote": [qcanet.promote], "tune": [qcanet.tune]}
    renamed = {"progress", "watch", "stage", "reference", "overrides"}
    for verb, functions in pairs.items():
        command = getattr(importlib.import_module(f"qcanet_monai.cli.{verb}"), verb)
        options = set(inspect.signature(command).parameters)
        for function in functions:
            assert set(inspect.signature(function).parameters) - renamed <= options, verb


@pytest.mark.slow
def test_the_notebook_runs_as_it_stands(tmp_path):
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, timeout=300).execute()
    assert (tmp_path / "segmented/Emb01_t004_labels.tif").is_file()
    kinds = [
        kind for cell in notebook.cells for out in cell.get("outputs", ()) for kind in out.get("data", {})
    ]
    assert "image/png" in kinds
    assert "text/html" in kinds
