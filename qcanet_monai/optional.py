"""Packages of the optional extras, and one line that says how to get an absent one."""

from __future__ import annotations

from importlib.util import find_spec

from qcanet_monai.errors import MissingPackageError

EXTRAS = {
    "ray": "tune",
    "optuna": "tune",
    "plotly": "tune",
    "mlflow": "mlflow",
    "bioimageio.core": "export",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
}


def need(*packages: str) -> None:
    """Check that packages are installed; nothing is imported.

    Raises
    ------
    MissingPackageError
        If one is not, with the extra that brings it.
    """
    for package in packages:
        if not _installed(package):
            raise MissingPackageError(
                f"expected the package {package}: pip install 'qcanet-monai[{EXTRAS[package]}]'"
            )


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package that holds it
        return False
