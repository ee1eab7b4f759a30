"""Fast import of MONAI, without the packages that only training needs."""

from __future__ import annotations

import sys

_ONLY_TO_TRAIN = ("ignite", "mlflow", "matplotlib", "pandas", "sklearn")


def import_monai() -> None:
    """Import MONAI while hiding packages that only training needs.

    Speeds up the import. MONAI's training cannot run in this process afterwards; the hidden packages can be
    imported as usual, and packages imported earlier stay visible.
    """
    hidden = [name for name in _ONLY_TO_TRAIN if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # makes Python raise ModuleNotFoundError
    try:
        import monai.bundle  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
