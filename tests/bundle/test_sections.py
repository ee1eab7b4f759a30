"""A network's configuration as a section of a larger one, with its references."""

import pytest

from qcanet_monai.bundle.bundle import SHIPPED, Bundle
from qcanet_monai.bundle.sections import literal, override, section_of
from qcanet_monai.errors import ModelError

SINGLE = {
    "bundle_root": ".",
    "spacing": None,
    "depth": 2,
    "depths": 9,
    "helper": {"_target_": "a.b", "value": "@depths"},
    "device": "$torch.device('cpu')",
    "network_def": {"_target_": "UNet3D", "depth": "@depth", "root": "@bundle_root"},
    "image_preprocessing": [{"_target_": "Scale", "by": "$2 ** @network_def#depth + @helper"}],
    "inferer": {"_target_": "Inferer", "device": "@device"},
    "run": ["$@evaluator.run()"],
}


def test_a_section_holds_what_the_network_is_made_of_and_points_into_itself():
    found = section_of(SINGLE, "nsn")
    assert set(found) == {
        *("depth", "depths", "helper", "network_def", "image_preprocessing", "inferer"),
        *("threshold", "min_size", "min_relative_intensity"),  # keys that postprocessing may refer to
    }
    assert found["network_def"] == {
        "_target_": "UNet3D",
        "depth": "@networks#nsn#depth",
        "root": "@bundle_root",
    }
    scale = "$2 ** @networks#nsn#network_def#depth + @networks#nsn#helper"
    assert found["image_preprocessing"][0]["by"] == scale
    assert found["helper"]["value"] == "@networks#nsn#depths"
    assert found["inferer"]["device"] == "@device"  # refers to the whole bundle's device


def test_a_section_that_is_there_is_taken_as_it_is():
    whole = {"networks": {"nsn": section_of(SINGLE, "nsn")}}
    assert section_of(whole, "nsn") == whole["networks"]["nsn"]
    assert section_of(whole, "nsn") is not whole["networks"]["nsn"]


def test_an_override_reaches_the_top_and_every_network():
    config = {"depth": 1, "networks": {"nsn": {"depth": 2}, "ndn": {"grid": None}}}
    assert override(config, "depth", 5)
    assert config == {"depth": 5, "networks": {"nsn": {"depth": 5}, "ndn": {"grid": None}}}
    assert not override(config, "width", 5)


def test_references_become_what_they_stand_for():
    config = {"a": 1, "b": {"c": "@a"}, "d": ["@b#c", {"e": "@b"}]}
    assert literal(config, config["d"]) == [1, {"e": {"c": 1}}]


def test_a_bundle_tells_what_it_is(tmp_path):
    single, both = Bundle.find("nsn"), Bundle.find("qcanet")
    assert (single.networks, both.networks) == (("",), ("nsn", "ndn"))
    assert (single.gives_labels, both.gives_labels) == (False, True)
    assert (single.trainable, Bundle(tmp_path).trainable) == (True, False)
    assert (single.name, single.objective, single.version) == ("nsn", "iou", single.metadata["version"])
    with pytest.raises(ModelError, match="one network"):
        both.predictor()
    with pytest.raises(ModelError, match=r"configs/train\.yaml"):
        Bundle(tmp_path).training  # noqa: B018


def test_a_copy_has_the_same_digest_and_another_weight_another(tmp_path):
    copied = Bundle.find("nsn").copy_to(tmp_path / "nsn")
    assert copied.digest == Bundle(SHIPPED / "nsn").digest
    (tmp_path / "nsn/configs/paper.yaml").write_text("depth: 1\n", encoding="utf-8")
    assert copied.digest != Bundle(SHIPPED / "nsn").digest


def test_a_joined_copy_states_its_own_network(tmp_path):
    copied = Bundle.find("qcanet").with_parts({"ndn": Bundle.find("nsn")}).copy_to(tmp_path / "both")
    assert (
        copied.inference["networks"]["ndn"]["threshold"] == copied.inference["networks"]["nsn"]["threshold"]
    )
    states = [copied.state(name) for name in copied.networks]
    assert all((states[0][key] == states[1][key]).all() for key in states[0])
    stated = Bundle(tmp_path / "both")._read("inference")["network_def"]
    assert stated == Bundle.find("qcanet").inference["network_def"]
