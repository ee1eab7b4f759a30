"""Simulated datasets on disk: layout, reproducibility, all or nothing."""

import hashlib

import numpy as np
import pytest
import tifffile

from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.errors import InputError
from qcanet_monai.io import read_volume


def _hashes(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(tifffile.imread(p).tobytes()).hexdigest()
        for p in folder.rglob("*.tif")
    }


def test_a_dataset_has_bbbc050s_layout(tmp_path):
    spacing = (4.0, 2.0, 2.0)
    written = simulate_dataset(
        tmp_path / "d", embryos=2, timepoints=2, test_embryos=1, spacing=spacing, workers=2
    )
    assert written == 6
    names = {f"Emb0{e}_t00{t}.tif" for e in (1, 2) for t in (1, 2)}
    for folder in (
        "Images/train/Images",
        *(f"GroundTruth/train/GroundTruth_{t}" for t in ("NSN", "NDN", "QCANet")),
    ):
        assert {p.name for p in (tmp_path / "d" / folder).iterdir()} == names
    assert len(list((tmp_path / "d/GroundTruth/test/GroundTruth_QCANet").iterdir())) == 2
    assert [p.name for p in (tmp_path / "d/GroundTruth/test").iterdir()] == ["GroundTruth_QCANet"]
    image = read_volume(tmp_path / "d/Images/train/Images/Emb01_t001.tif")
    assert image.spacing == pytest.approx(spacing)
    for target in ("NSN", "NDN"):
        mask = tifffile.imread(tmp_path / f"d/GroundTruth/train/GroundTruth_{target}/Emb01_t001.tif")
        assert set(np.unique(mask)) == {0, 255}


def test_a_seed_fixes_every_voxel_whatever_the_number_of_workers(tmp_path):
    for name, seed, workers in (("a", 5, 1), ("b", 5, 2), ("c", 6, 1)):
        simulate_dataset(
            tmp_path / name, embryos=2, timepoints=1, seed=seed, spacing=(4.0, 2.0, 2.0), workers=workers
        )
    assert _hashes(tmp_path / "a") == _hashes(tmp_path / "b")
    assert _hashes(tmp_path / "a") != _hashes(tmp_path / "c")


def test_settings_say_what_is_drawn(tmp_path):
    (tmp_path / "mine.yaml").write_text("view: {lateral_um: 4, anisotropy: 1.5, depth_um: 60, width_um: 80}")
    simulate_dataset(tmp_path / "d", embryos=1, timepoints=1, settings=tmp_path / "mine.yaml", workers=1)
    image = read_volume(tmp_path / "d/Images/train/Images/Emb01_t001.tif")
    assert image.spacing == pytest.approx((6.0, 4.0, 4.0))
    assert image.array.shape == (10, 20, 20)


def test_a_share_of_tissues_replaces_embryos(tmp_path):
    """A tissue's first frame holds many nuclei, an embryo's only one."""
    counts = {}
    for tissue in (None, 0.0, 1.0):
        folder = tmp_path / f"{tissue}"
        simulate_dataset(
            folder, embryos=2, timepoints=1, spacing=(4.0, 2.0, 2.0), tissue_fraction=tissue, workers=1
        )
        truth = folder / "GroundTruth/train/GroundTruth_QCANet"
        counts[tissue] = [int(tifffile.imread(path).max()) for path in sorted(truth.iterdir())]
    assert _hashes(tmp_path / "None") == _hashes(tmp_path / "0.0")
    assert counts[0.0] == [1, 1]
    assert min(counts[1.0]) > 20


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tissue_fraction": 1.5}, "share of tissues between 0 and 1, got 1.5"),
        ({"settings": "absent.yaml"}, r"cannot read .*absent\.yaml"),
        ({"settings": "wrong.yaml"}, r"wrong\.yaml: growth\.radius_um can be -3"),
    ],
)
def test_settings_that_cannot_be_are_refused_and_nothing_is_written(tmp_path, options, named):
    (tmp_path / "wrong.yaml").write_text("growth: {radius_um: -3}")
    if "settings" in options:
        options = {"settings": tmp_path / options["settings"]}
    with pytest.raises(InputError, match=named):
        simulate_dataset(tmp_path / "d", embryos=1, timepoints=1, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"wrong.yaml"}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_simulation_leaves_nothing(tmp_path, workers):
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(
            tmp_path / "d",
            embryos=2,
            timepoints=1,
            spacing=(4.0, 2.0, 2.0),
            workers=workers,
            progress=interrupt,
        )
    assert not list(tmp_path.iterdir())


def test_files_in_the_folder_are_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files"):
        simulate_dataset(tmp_path, embryos=1, timepoints=1)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
