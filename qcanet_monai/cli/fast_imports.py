"""MONAI without the packages that only its trainings use, which take longer to import than MONAI itself."""

from __future__ import annotations

import sys

_ONLY_TO_TRAIN = ("ignite", "mlflow", "matplotlib", "pandas", "sklearn")


def import_monai() -> None:
    """Import MONAI as where none of them is installed; afterwards each can be imported as ever.

    ``import monai`` tries all that it may ever use. MONAI's trainings cannot run in this process then: only
    for a verb that does not train. Nothing happens where MONAI or one of them has been imported already.
    """
    hidden = [name for name in _ONLY_TO_TRAIN if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # what Python takes for "not to be found"
    try:
        import monai.bundle  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
