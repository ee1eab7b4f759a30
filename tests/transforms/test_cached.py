"""Preprocessed volumes on disk equal those in memory and are never executed."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.transforms import Compose

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.io.dataset import split
from qcanet_monai.nn.metatensor import spacing_of
from qcanet_monai.transforms.cached import cached

KEYS = ("image", "label")


def transforms(*parts: str, **knobs) -> Compose:
    parser = Bundle.find("nsn").training_parser()
    parser.update(knobs)
    return Compose([t for part in parts for t in parser.get_parsed_content(part)])


def preprocessing(**knobs) -> Compose:
    return transforms("preprocessing", **{"isotropic_spacing_um": 4.0, **knobs})


@pytest.fixture
def own(dataset, tmp_path) -> list[dict[str, str]]:
    return split(shutil.copytree(dataset, tmp_path / "data"), "NSN", "validation", at_most=2)


def alter(items) -> None:
    for item in items:
        for key in KEYS:
            Path(item[key]).write_bytes(b"no image any more")


def assert_same(one, other) -> None:
    assert set(one) == set(other) >= set(KEYS)
    for key in KEYS:
        assert one[key].dtype == other[key].dtype
        assert torch.equal(one[key].as_tensor(), other[key].as_tensor())
        assert torch.equal(one[key].affine, other[key].affine)
        assert spacing_of(one[key]) == spacing_of(other[key])
        assert one[key].meta["filename_or_obj"] == other[key].meta["filename_or_obj"]
        for name in ("native_shape", "native_spacing"):
            assert torch.equal(torch.as_tensor(one[key].meta[name]), torch.as_tensor(other[key].meta[name]))


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_disk_gives_what_memory_gives(own, tmp_path):
    memory = cached(own, preprocessing())
    for _ in ("written", "read"):
        disk = cached(own, preprocessing(), cache_dir=tmp_path / "cache")
        assert len(disk) == len(memory) == 2
        for one, other in zip(memory, disk, strict=True):
            assert_same(one, other)
    assert len(names(tmp_path / "cache")) == 2


def test_what_is_in_memory_is_read_from_the_files_once(own):
    memory = cached(own, preprocessing())
    before = [memory[i] for i in range(2)]
    alter(own)
    for i in range(2):
        assert_same(memory[i], before[i])


def test_a_second_training_reads_what_the_first_wrote(own, tmp_path):
    first = list(cached(own, preprocessing(), cache_dir=tmp_path / "cache"))
    alter(own)
    for one, other in zip(first, cached(own, preprocessing(), cache_dir=tmp_path / "cache"), strict=True):
        assert_same(one, other)


@pytest.mark.slow
def test_another_process_finds_the_same_files(own, tmp_path):
    cached(own, preprocessing(), cache_dir=tmp_path / "cache")[0]
    before = names(tmp_path / "cache")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_cached import cached, preprocessing;"
        "cached([dict(image=sys.argv[2], label=sys.argv[3])], preprocessing(), cache_dir=sys.argv[4])[0]"
    )
    alter(own)
    words = [str(Path(__file__).parent), own[0]["image"], own[0]["label"], str(tmp_path / "cache")]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "cache") == before


def test_other_transforms_have_other_files(own, tmp_path):
    sizes = {}
    for grid in (4.0, 8.0, None):
        item = cached(own, preprocessing(isotropic_spacing_um=grid), cache_dir=tmp_path / "cache")[0]
        sizes[grid] = item["image"].shape
    cached(own, preprocessing(normalisation="min_max"), cache_dir=tmp_path / "cache")[0]
    assert len(names(tmp_path / "cache")) == 4
    assert len(set(sizes.values())) == 3
    assert cached(own, preprocessing(), cache_dir=tmp_path / "cache")[0]["image"].shape == sizes[4.0]
    assert len(names(tmp_path / "cache")) == 4


def training(items, folder):
    """Make training data with patches of 16 voxels and fixed randomness."""
    data = cached(
        items,
        transforms("preprocessing", "augmentation", isotropic_spacing_um=4.0, patch_size=16),
        cache_dir=folder,
    )
    data.transform.set_random_state(0)
    return data


def test_a_trainings_own_transforms_are_read_again_too(own, tmp_path):
    (first,) = training(own, tmp_path / "cache")[0]
    alter(own)
    (second,) = training(own, tmp_path / "cache")[0]
    assert_same(second, first)


def test_the_augmentation_is_drawn_anew_each_time(own, tmp_path):
    data = training(own, tmp_path / "cache")
    patches = [data[0][0]["image"].as_tensor() for _ in range(6)]
    assert all(patch.shape == (1, 16, 16, 16) for patch in patches)
    assert any(not torch.equal(patches[0], patch) for patch in patches[1:])
    assert len(names(tmp_path / "cache")) == 1


def test_nothing_of_a_file_is_executed(own, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    expected = cached(own, preprocessing(), cache_dir=tmp_path / "cache")[0]
    (file,) = (tmp_path / "cache").iterdir()
    for poison in (pickle.dumps(Trap(), protocol=2), None):
        if poison is None:
            torch.save({"image": Trap()}, file)
        else:
            file.write_bytes(poison)
        with pytest.warns(UserWarning, match="Corrupt cache file"):
            item = cached(own, preprocessing(), cache_dir=tmp_path / "cache")[0]
        assert_same(item, expected)
        assert not (tmp_path / "sprung").exists()
