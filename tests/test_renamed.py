"""Names of version 0.1: bundles, studies and overrides work, with a notice."""

import copy
import json
import re
import shutil

import pytest
import yaml

from qcanet_monai.bundle.bundle import SHIPPED, Bundle
from qcanet_monai.errors import ModelError
from qcanet_monai.renamed import SETTINGS, refuse_former_options, renamed
from qcanet_monai.tuning.study_file import read_study

FORMER = {new: old for old, new in SETTINGS.items()}
PARAMETERS = ("isotropic_spacing_um", "min_peak", "min_distance_um", "min_size")


def parameters(value):
    if isinstance(value, dict):
        names = {key: FORMER[key] if "_target_" in value and key in PARAMETERS else key for key in value}
        return {names[key]: parameters(one) for key, one in value.items()}
    return [parameters(one) for one in value] if isinstance(value, list) else value


def former(config):
    text = json.dumps(parameters(config))
    text = re.sub(rf"@({'|'.join(FORMER)})\b", lambda match: f"@{FORMER[match[1]]}", text)
    text = text.replace("core.instances.", "core.").replace("inference.weights.", "inference.predictor.")
    return {FORMER.get(key, key): value for key, value in json.loads(text).items()}


@pytest.mark.parametrize("name", ["nsn", "ndn", "joint", "cellseg3d", "spindle"])
def test_a_bundle_with_former_names_is_the_bundle_with_the_present_ones(name, tmp_path, capsys):
    folder = shutil.copytree(SHIPPED / name, tmp_path / name)
    present = Bundle(folder).inference
    present.pop("segmenter", None)  # only used by monai.bundle
    config = former(copy.deepcopy(present))
    assert config != present
    (folder / "configs/inference.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    capsys.readouterr()
    bundle = Bundle(folder)
    assert bundle.inference == present
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert f"{folder / 'configs/inference.yaml'}: " in told[0]
    assert "flips is now test_time_augmentation" in told[0]
    bundle.predictor()


def test_present_bundles_are_read_without_a_notice(capsys):
    for name in ("nsn", "joint", "qcanet"):
        Bundle.find(name).inference  # noqa: B018
    assert capsys.readouterr() == ("", "")


def test_a_bundle_that_holds_bundles_is_both_together(tmp_path):
    for name in ("nsn", "ndn"):
        shutil.copytree(SHIPPED / name, tmp_path / name)
    bundle = Bundle.find(tmp_path)
    assert bundle.networks == ("nsn", "ndn")
    assert bundle.part("ndn").folder == tmp_path / "ndn"
    # a former bundle lends its own networks, not the shipped ones
    borrowing = Bundle.find("qcanet").with_parts({"nsn": bundle})
    assert borrowing.part("nsn").weights == tmp_path / "nsn/models/model.pt"
    assert borrowing.part("ndn").folder == SHIPPED / "qcanet"


def test_an_override_by_its_former_name_is_taken(capsys):
    assert Bundle.find("nsn").predictor(grid=2.0).isotropic_spacing_um == 2.0
    assert "grid is now isotropic_spacing_um" in capsys.readouterr().err


def test_a_study_with_former_names_is_the_study_with_the_present_ones(tmp_path, capsys):
    present = {
        "bundle": "nsn",
        "space": {"rotation_probability": {"choices": [0.0, 0.5]}, "ema_decay": {"low": 0.0, "high": 0.9}},
        "settings": {"patches_per_volume": 2},
        "starting_points": [{"rotation_probability": 0.5, "ema_decay": 0.0}],
    }
    texts = [yaml.safe_dump(present)]
    texts += [re.sub(rf"\b({'|'.join(FORMER)})\b", lambda match: FORMER[match[1]], texts[0])]
    studies = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        studies.append(read_study(path))
    assert studies[0] == studies[1]
    told = capsys.readouterr().err.splitlines()
    parts = [line.split(": ")[1].rpartition(", ")[2] for line in told]
    assert parts == ["space", "settings", "starting points"]


@pytest.mark.parametrize("option", ["--patches", "--grid=2.0"])
def test_monais_command_line_is_refused_a_former_name(option):
    monai = "/site-packages/monai/bundle/__main__.py"
    with pytest.raises(ModelError, match=r"expected --\w+, got its former name"):
        refuse_former_options([monai, "run", "--epochs", "2", option, "4"])
    refuse_former_options([monai, "run", "--patches_per_volume", "4", "grid"])
    refuse_former_options(["benchmarks/joint.py", option, "4"])  # another program's own option
    refuse_former_options([])


def test_no_former_name_is_a_present_one():
    assert not set(SETTINGS) & set(SETTINGS.values())
    assert renamed({"threshold": 0.5}, "here") == {"threshold": 0.5}
