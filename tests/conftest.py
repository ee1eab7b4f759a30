"""What several tests share: a small simulated dataset, made once."""

from pathlib import Path

import pytest

from qcanet_monai.workflows.simulate import simulate_dataset


def pytest_collection_modifyitems(items):
    """Side by side, a file stays in one process; so do all the tests that start Ray, which come first."""
    items.sort(key=lambda item: "tuning" not in item.path.parts)
    for item in items:
        whole = item.path.parent if "tuning" in item.path.parts else item.path
        item.add_marker(pytest.mark.xdist_group(str(whole)))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """Two embryos of three small frames in BBBC050's layout."""
    folder = tmp_path_factory.mktemp("simulated") / "data"
    simulate_dataset(folder, embryos=2, timepoints=3, seed=4, spacing=(4.0, 2.0, 2.0), workers=1)
    return folder
