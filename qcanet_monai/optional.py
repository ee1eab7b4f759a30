"""Checks for the packages of optional extras."""

from __future__ import annotations

from importlib.util import find_spec

from qcanet_monai.errors import MissingPackageError

EXTRAS = {
    **dict.fromkeys(("ray", "optuna", "plotly"), "tune"),
    "mlflow": "mlflow",
    **dict.fromkeys(("bioimageio.core", "onnx", "onnxruntime", "onnxscript"), "export"),
}


def need(*packages: str) -> None:
    """Check that packages are installed, without importing them.

    Raises
    ------
    MissingPackageError
        If a package is missing; the message names the extra to install.
    """
    for package in packages:
        if not _installed(package):
            raise MissingPackageError(
                f"expected the package {package}: pip install 'qcanet-monai[{EXTRAS[package]}]'"
            )


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # parent package is missing
        return False
