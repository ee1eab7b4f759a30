"""User errors: one line, exit status 2, and no files left behind."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from qcanet_monai.bundle.bundle import SHIPPED
from qcanet_monai.io import write_labels, write_volume
from qcanet_monai.nn.unet import UNet3D

SPACING = ("--spacing", "1.75", "0.8", "0.8")


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "in" / "good.tif"
    path.parent.mkdir()
    write_volume(path, _noise((8, 16, 16)), spacing=(1.75, 0.8, 0.8))
    return path


def _noise(shape: tuple[int, ...], kind: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, shape).astype(kind)


def refused(done, *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("qcanet: warning: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("qcanet: ")
    for part in parts:
        assert part in lines[0]


def test_a_process_ends_with_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-c", "from qcanet_monai.cli.main import main; main()"]
    command += ["segment", str(tmp_path / "none.tif"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    refused(done, "none.tif")


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no image" * 50)


def _truncated(path: Path) -> None:
    tifffile.imwrite(path, _noise((8, 16, 16)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _channels(path: Path) -> None:
    tifffile.imwrite(path, _noise((8, 3, 16, 16)), imagej=True, metadata={"axes": "ZCYX"})


def _nan(path: Path) -> None:
    volume = _noise((8, 16, 16), np.float32)
    volume[1, 2, 3] = np.nan
    tifffile.imwrite(path, volume)


BAD = {
    "not a TIFF": (_garbage, ["TIFF"]),
    "truncated": (_truncated, ["truncated"]),
    "empty": (_empty, ["empty"]),
    "2-D": (lambda p: tifffile.imwrite(p, _noise((16, 16))), ["2-D"]),
    "RGB": (lambda p: tifffile.imwrite(p, _noise((16, 16, 3), np.uint8), photometric="rgb"), ["RGB"]),
    "several channels": (_channels, ["3 channels", "--channel"]),
    "constant": (lambda p: tifffile.imwrite(p, np.full((8, 16, 16), 7, np.uint16)), ["contrast"]),
    "NaN": (_nan, ["NaN"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_refused_and_leaves_nothing(qcanet, kind, tmp_path):
    make, parts = BAD[kind]
    path, out = tmp_path / "bad.tif", tmp_path / "out"
    make(path)
    refused(qcanet("segment", path, *SPACING, "--out", out), "bad.tif", *parts)
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["bad.tif"]


def test_an_image_without_spacing_names_the_option(qcanet, tmp_path):
    tifffile.imwrite(tmp_path / "plain.tif", _noise((8, 16, 16)))
    refused(qcanet("segment", tmp_path / "plain.tif", "--out", tmp_path / "out"), "plain.tif", "--spacing")
    assert not (tmp_path / "out").exists()


def test_a_negative_spacing_is_refused(qcanet, image, tmp_path):
    done = qcanet("segment", image, "--spacing", "-1.75", "0.8", "0.8", "--out", tmp_path / "out")
    refused(done, "-1.75")
    assert not (tmp_path / "out").exists()


def test_a_missing_image_is_refused(qcanet, tmp_path):
    refused(qcanet("segment", tmp_path / "none.tif", "--out", tmp_path / "out"), "none.tif", "not exist")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused(qcanet, image, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    refused(qcanet("segment", image, "--out", blocked), "file")
    assert blocked.read_text() == "mine"
    refused(qcanet("segment", image, "--out", "/proc/none"), "/proc/none")


def test_missing_weights_are_refused(qcanet, image, tmp_path):
    bundle = shutil.copytree(SHIPPED / "nsn", tmp_path / "nsn")
    (bundle / "models/model.pt").unlink()
    refused(qcanet("segment", image, "--nsn", bundle, "--out", tmp_path / "out"), "model.pt", "weights")
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture_are_refused(qcanet, image, tmp_path):
    bundle = shutil.copytree(SHIPPED / "ndn", tmp_path / "ndn")
    torch.save(UNet3D(depth=1, channels=2).state_dict(), bundle / "models/model.pt")
    done = qcanet("segment", image, "--ndn", bundle, "--out", tmp_path / "out")
    refused(done, "another architecture", "depth")
    assert not (tmp_path / "out").exists()


def test_weights_that_hide_code_are_refused_unopened(qcanet, image, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    bundle = shutil.copytree(SHIPPED / "nsn", tmp_path / "nsn")
    torch.save({"weights": Trap()}, bundle / "models/model.pt")
    refused(qcanet("segment", image, "--nsn", bundle, "--out", tmp_path / "out"), "safely")
    assert not (tmp_path / "sprung").exists()


def test_a_bundle_with_a_broken_configuration_is_refused(qcanet, image, tmp_path):
    bundle = shutil.copytree(SHIPPED / "nsn", tmp_path / "nsn")
    config = bundle / "configs/inference.yaml"
    for text in ("depth: [", "depth: 3\n", config.read_text(encoding="utf-8").replace("UNet3D", "UNet4D")):
        config.write_text(text, encoding="utf-8")
        refused(qcanet("segment", image, "--nsn", bundle, "--out", tmp_path / "out"), "inference.yaml")
    assert not (tmp_path / "out").exists()


def test_an_unknown_precision_is_refused(qcanet, image, tmp_path):
    done = qcanet("segment", image, "--precision", "fp8", "--out", tmp_path / "out")
    refused(done, "fp8", "bf16")
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_reference_is_refused(qcanet, image, tmp_path):
    refused(qcanet("segment", image, "--nsn", "best", "--out", tmp_path / "out"), "best", "a folder")


@pytest.mark.parametrize("other", ["--nsn", "--ndn"])
def test_a_part_that_the_model_does_not_have_is_refused(qcanet, image, other, tmp_path):
    done = qcanet("segment", image, "--model", "joint", other, "nsn", "--out", tmp_path / "out")
    refused(done, "joint", f"no key {other.strip('-')}")
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_is_refused(qcanet, image, tmp_path):
    refused(qcanet("segment", image, "--model", "best", "--out", tmp_path / "out"), "'best'")
    assert not (tmp_path / "out").exists()


def test_a_model_that_makes_no_labels_is_refused(qcanet, image, tmp_path):
    done = qcanet("segment", image, "--model", "nsn", "--out", tmp_path / "out")
    refused(done, "nsn", "a probability only", "--nsn or --ndn")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", ["150%", "100%", "1", "-10%", "a tenth", "%", "nan"])
def test_a_share_to_leave_out_that_is_none_is_refused(qcanet, image, share, tmp_path):
    words = ("segment", image, "--n-samples", 2, f"--drop-uncertain={share}", "--out", tmp_path / "out")
    refused(qcanet(*words), f"'{share}'", "below 100%", "10%")
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_out_unless_the_uncertainty_is_asked_for(qcanet, image, tmp_path):
    done = qcanet("segment", image, "--drop-uncertain", "10%", "--out", tmp_path / "out")
    refused(done, "dropout samples", "e.g. 100")
    assert not (tmp_path / "out").exists()


def test_uncertainty_needs_networks_with_dropout(qcanet, image, tmp_path):
    done = qcanet("segment", image, "--n-samples", 2, "--out", tmp_path / "out")
    refused(done, "dropout", str(SHIPPED / "qcanet"))
    assert not (tmp_path / "out").exists()


def test_a_bad_file_in_a_folder_costs_only_itself(qcanet, image, tmp_path):
    _garbage(image.parent / "bad.tif")
    out = tmp_path / "out"
    done = qcanet("segment", image.parent, "--out", out)
    refused(done, "bad.tif")
    assert {p.name for p in out.iterdir()} == {
        *(
            "good_labels.tif",
            "good_overlay.png",
            "nuclei.csv",
            "timepoints.csv",
            "run.json",
            ".done",
            ".measured.json",
        )
    }
    assert "bad.tif" in (out / "run.json").read_text(encoding="utf-8")


def test_results_that_are_there_survive_a_bad_input(qcanet, image, tmp_path):
    out = tmp_path / "out"
    assert qcanet("segment", image, "--out", out).returncode == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    _garbage(image)
    refused(qcanet("segment", image, "--out", out), "good.tif")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_two_images_of_one_name_are_refused(qcanet, image, tmp_path):
    other = tmp_path / "other" / "good.tif"
    other.parent.mkdir()
    shutil.copy(image, other)
    refused(qcanet("segment", image, other, "--out", tmp_path / "out"), "good_labels.tif")


def test_a_dataset_is_not_simulated_over_files(qcanet, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    refused(qcanet("simulate", tmp_path, "--embryos", "1", "--timepoints", "1"), str(tmp_path), "empty")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("option", [("--embryos", "0"), ("--timepoints", "0")])
def test_an_empty_simulation_is_refused(qcanet, option, tmp_path):
    refused(qcanet("simulate", tmp_path / "data", *option), "at least 1")
    assert not (tmp_path / "data").exists()


@pytest.fixture
def embryo(tmp_path) -> Path:
    """Write a volume that is large enough for an adaptation."""
    path = tmp_path / "in" / "embryo.tif"
    path.parent.mkdir()
    write_volume(path, _noise((8, 40, 40)), spacing=(1.75, 0.8, 0.8))
    return path


UNFIT = {
    "missing": (lambda _: None, ["not exist"]),
    "too small": (
        lambda p: write_volume(p, _noise((8, 16, 16)), spacing=(1.75, 0.8, 0.8)),
        ["(6, 32, 32)", "larger image"],
    ),
    "constant": (
        lambda p: write_volume(p, np.full((8, 40, 40), 7, np.uint16), spacing=(1.75, 0.8, 0.8)),
        ["contrast"],
    ),
    "of oblong voxels": (
        lambda p: write_volume(p, _noise((8, 40, 40)), spacing=(1.75, 0.8, 1.6)),
        ["1.75 x 0.8 x 1.6 µm", "--spacing"],
    ),
    "without spacing": (lambda p: tifffile.imwrite(p, _noise((8, 40, 40))), ["--spacing"]),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_an_image_that_cannot_be_adapted_to_is_refused_and_leaves_nothing(qcanet, kind, tmp_path):
    make, parts = UNFIT[kind]
    path, out = tmp_path / "unfit.tif", tmp_path / "out"
    make(path)
    refused(qcanet("adapt", path, "--out", out), "unfit.tif", *parts)
    assert [p.name for p in tmp_path.iterdir()] == (["unfit.tif"] if path.exists() else [])


def test_bundles_are_not_adapted_over_files(qcanet, embryo, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    refused(qcanet("adapt", embryo, "--out", out), str(out), "empty", "choose another")
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("option", "parts"),
    [
        (("--steps", "0"), ["at least 1 step", "0"]),
        (("--n-matches", "29"), ["at least 30 synthetic matches", "29"]),
        (("--nsn", "best"), ["nsn", "best", "bundled"]),
        (("--ndn", "none"), ["ndn", "none", "bundled"]),
    ],
)
def test_options_that_no_adaptation_can_have_are_refused(qcanet, embryo, option, parts, tmp_path):
    refused(qcanet("adapt", embryo, *option, "--out", tmp_path / "out"), *parts)
    assert not (tmp_path / "out").exists()


def test_images_of_two_microscopes_are_not_adapted_to_together(qcanet, embryo, tmp_path):
    write_volume(embryo.with_name("other.tif"), _noise((8, 40, 40)), spacing=(3.5, 0.8, 0.8))
    done = qcanet("adapt", embryo.parent, "--out", tmp_path / "out")
    refused(done, "other.tif", "embryo.tif", "one microscope at a time")
    assert not (tmp_path / "out").exists()


def test_scores_of_unlike_shapes_are_refused(qcanet, tmp_path):
    labels, other = tmp_path / "labels.tif", tmp_path / "other.tif"
    write_volume(other, _noise((8, 16, 16)) % 2, spacing=(1.75, 0.8, 0.8))
    write_volume(labels, _noise((8, 16, 15)) % 2, spacing=(1.75, 0.8, 0.8))
    refused(qcanet("evaluate", labels, other), "(8, 16, 15)")


@pytest.mark.parametrize("verb", ["track", "report"])
def test_what_follows_a_segmentation_asks_for_one(qcanet, tmp_path, verb):
    for folder in (tmp_path / "none", tmp_path):
        refused(qcanet(verb, folder), "expected nuclei.csv", "qcanet segment")
    assert not list(tmp_path.iterdir())


def test_criteria_ask_for_what_they_lack(qcanet, tmp_path):
    refused(qcanet("criteria", tmp_path / "none"), "does not exist")
    refused(qcanet("criteria", tmp_path), "expected images in")
    for frame in (1, 2):
        write_labels(tmp_path / f"e_t{frame}.tif", np.ones((2, 4, 4), int), spacing=(1, 1, 1))
    refused(qcanet("criteria", tmp_path), "--interval-min MINUTES")
    refused(qcanet("criteria", tmp_path, "--interval-min", "10", "--blastocyst", "e"), "EMBRYO=HOURS")
    assert {path.name for path in tmp_path.iterdir()} == {"e_t1.tif", "e_t2.tif"}
    assert qcanet("criteria", tmp_path, "--interval-min", "10", "--blastocyst", "e=0.1").returncode == 0
