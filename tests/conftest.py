"""What several tests share: a small simulated dataset, made once."""

from pathlib import Path

import pytest

from qcanet_monai.workflows.simulate import simulate_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """Two embryos of three small frames in BBBC050's layout."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate_dataset(folder, embryos=2, timepoints=3, seed=4, spacing=(4.0, 2.0, 2.0), workers=1)
    return folder
