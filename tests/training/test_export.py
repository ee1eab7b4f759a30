"""Values of nested keys in a bundle's configurations, comments kept."""

from pathlib import Path

import pytest
import yaml

from qcanet_monai.errors import ModelError
from qcanet_monai.training.export import flat, set_knobs, write_knobs

TEXT = """\
threshold: 0.5                    # of the whole
networks:
  nsn:                            # regions
    depth: 3                      # poolings
    threshold: 0.5
  ndn:
    depth: 3
other: {depth: 3}
"""


def test_a_key_of_a_section_is_set_there_alone():
    changed = set_knobs(TEXT, {"networks": {"nsn": {"depth": 2}}, "networks#ndn#depth": 1}, Path("x.yaml"))
    assert changed == TEXT.replace(
        "    depth: 3                      #", "    depth: 2                      #"
    ).replace("  ndn:\n    depth: 3", "  ndn:\n    depth: 1")
    assert flat(yaml.safe_load(set_knobs(TEXT, {"threshold": 0.25}, Path("x.yaml")))) == {
        **flat(yaml.safe_load(TEXT)),
        "threshold": 0.25,
    }


@pytest.mark.parametrize("key", ["depth", "networks#nsn#width", "networks#nsn"])
def test_a_key_that_a_file_lacks_is_refused(key):
    with pytest.raises(ModelError, match=f"expected the keys {key} in x.yaml"):
        set_knobs(TEXT, {key: 1}, Path("x.yaml"))


def test_a_bundle_needs_a_key_in_one_of_its_files(tmp_path):
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "train.yaml").write_text("depth: 3\nlearning_rate: 0.1\n")
    (configs / "inference.yaml").write_text("depth: 3\nthreshold: 0.5\n")
    write_knobs(tmp_path, {"depth": 2, "threshold": 0.25})
    assert (configs / "train.yaml").read_text() == "depth: 2\nlearning_rate: 0.1\n"
    assert (configs / "inference.yaml").read_text() == "depth: 2\nthreshold: 0.25\n"
    with pytest.raises(ModelError, match="expected the keys width"):
        write_knobs(tmp_path, {"width": 2})
