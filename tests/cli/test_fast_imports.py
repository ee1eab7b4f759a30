"""Packages that `qcanet segment` does not import can still be imported later."""

import subprocess
import sys

import pytest

ASKS = """
import sys
from qcanet_monai.cli.fast_imports import import_monai
import_monai()
assert "monai.bundle" in sys.modules
left_out = [name for name in ("ignite", "mlflow", "matplotlib", "pandas", "sklearn") if name in sys.modules]
import mlflow, ignite.engine
from qcanet_monai.registry import versions
print(left_out, mlflow.__name__)
"""


@pytest.mark.slow
def test_what_only_trainings_use_is_left_out_and_can_be_imported_afterwards():
    """In a new process, because this one has imported the packages."""
    done = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[] mlflow\n"), done.stderr


def test_a_process_that_has_them_keeps_them():
    """Trainings that ran earlier in the process can continue."""
    import mlflow

    from qcanet_monai.cli.fast_imports import import_monai

    import_monai()
    assert sys.modules["mlflow"] is mlflow
