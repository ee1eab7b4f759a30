"""Voxel sizes in µm: units as files write them, and the rule that a size is stated or asked for."""

import math
import re
from collections.abc import Sequence
from os import PathLike

from qcanet_monai.errors import InputError

__all__ = ["NOT_STATED", "Stated", "check_spacing", "resolve_spacing", "to_minutes", "to_um"]

Stated = tuple[float | None, float | None, float | None]
"""Voxel size (z, y, x) in µm as far as a file states it."""

NOT_STATED: Stated = (None, None, None)

_UM_PER_UNIT = {
    "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "micrometers": 1.0, "micrometres": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3, "nanometers": 1e-3, "nanometres": 1e-3,
    "pm": 1e-6, "å": 1e-4, "angstrom": 1e-4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3, "millimeters": 1e3, "millimetres": 1e3,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "in": 25400.0, "inch": 25400.0, "inches": 25400.0,
}  # fmt: skip

_MINUTES = {
    "ms": 1 / 60_000, "millisecond": 1 / 60_000, "s": 1 / 60, "sec": 1 / 60, "second": 1 / 60,
    "min": 1.0, "minute": 1.0, "h": 60.0, "hr": 60.0, "hour": 60.0, "day": 1440.0,
}  # fmt: skip


def to_um(value: object, unit: object) -> float | None:
    r"""Convert a length as a file states it.

    Parameters
    ----------
    value : object
        A number, or its text.
    unit : object
        The unit's name: ``micron``, ``µm``, ``um``, ``\u00B5m`` (as ImageJ escapes it), ``nm``, ``mm`` ...

    Returns
    -------
    float or None
        The length in µm; None where the value is no positive number or the unit is none of length.
    """
    factor = _UM_PER_UNIT.get(_plain_unit(unit))
    try:
        length = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if factor is None or not math.isfinite(length) or length <= 0:
        return None
    return length * factor


def to_minutes(value: object, unit: object) -> float | None:
    """Convert a time between frames as a file states it.

    Parameters
    ----------
    value : object
        A number, or its text.
    unit : object
        The unit's name: ``ms``, ``s``, ``sec``, ``second``, ``min``, ``minute``, ``h``, ``hour`` ...

    Returns
    -------
    float or None
        The time in minutes; None where the value is no positive number or the unit is none of time.
    """
    try:
        minutes = float(value) * _MINUTES[str(unit)]  # type: ignore[arg-type]
    except (TypeError, ValueError, KeyError):
        return None
    return minutes if 0 < minutes < math.inf else None


def check_spacing(spacing: Sequence[float], source: str | PathLike[str]) -> tuple[float, float, float]:
    """Return `spacing` as three floats, or refuse it.

    Parameters
    ----------
    spacing : sequence of 3 float
        Voxel size (z, y, x) in µm.
    source : path-like
        The file it belongs to, for the message.

    Raises
    ------
    InputError
        If it is not three finite positive numbers.
    """
    try:
        values = tuple(float(value) for value in spacing)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(math.isfinite(value) and value > 0 for value in values):
        shown = " ".join(str(value) for value in spacing) if isinstance(spacing, Sequence) else str(spacing)
        raise InputError(
            f"{source}: the voxel size must be 3 finite positive numbers in µm, --spacing Z Y X; got {shown}"
        )
    return values[0], values[1], values[2]


def resolve_spacing(
    stated: Stated, given: Sequence[float] | None, source: str | PathLike[str]
) -> tuple[float, float, float]:
    """Return the voxel size the caller gave, else the one the file states.

    Parameters
    ----------
    stated : tuple of 3 float or None
        What the file states (z, y, x) in µm.
    given : sequence of 3 float, optional
        What the caller says; it wins.
    source : path-like
        The file, for the message.

    Raises
    ------
    InputError
        If `given` is no voxel size, or nothing is given and the file does not state all three.
    """
    if given is not None:
        return check_spacing(given, source)
    z, y, x = stated
    if z is None or y is None or x is None:
        known = [
            f"{name} {value:.4g}" for name, value in zip("zyx", stated, strict=True) if value is not None
        ]
        partly = f" in full (only {', '.join(known)} µm)" if known else ""
        raise InputError(
            f"{source} does not state its voxel size{partly}: give it in µm with --spacing Z Y X, "
            "for example --spacing 1.75 0.8 0.8"
        )
    return z, y, x


def _plain_unit(unit: object) -> str:
    text = re.sub(r"\\u00b5|[µμ]", "u", str(unit or "").strip(), flags=re.IGNORECASE)
    # Case tells short units apart (mm and Mm), not long ones.
    return text.lower() if len(text) > 2 or text == "Å" else text
