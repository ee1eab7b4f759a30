"""`python -m monai.bundle run` with our bundles: mistakes are told in one line."""

import subprocess
import sys

import pytest

from qcanet_monai.bundle.bundle import SHIPPED
from qcanet_monai.bundle.command_line import check_options
from qcanet_monai.errors import InputError

FILE = str(SHIPPED / "nsn/configs/inference.yaml")


@pytest.mark.parametrize(
    ("option", "said"),
    [("--dataset_dir", "nothere does not exist"), ("--datset_dir", "did you mean --dataset_dir?")],
)
def test_the_last_line_names_the_mistake(tmp_path, option, said):
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(SHIPPED / "nsn")]
    command += ["--config_file", FILE, option, "nothere", "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("qcanet: ")
    assert said in last
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option", ["--depth", "--network_def#depth", "--threshold=0.4", "--run_id", "--bundle_root"]
)
def test_options_of_the_configuration_and_of_monai_pass(option):
    check_options(["run", "--config_file", f"['{FILE}']", option, "3"])


@pytest.mark.parametrize("option", ["--dept", "--treshold=0.4", "--network_deff#depth", "--zzz"])
def test_other_options_are_refused(option):
    key = option.removeprefix("--").partition("=")[0]
    with pytest.raises(InputError, match=rf"expected options that the configuration has, got --{key}"):
        check_options(["run", "--config_file", FILE, option, "3"])
