"""Voxel sizes in µm and time intervals in minutes: unit conversion, validation."""

import math
import re
from collections.abc import Sequence
from os import PathLike

from qcanet_monai.errors import InputError

Stated = tuple[float | None, float | None, float | None]
"""Voxel size (z, y, x) in µm stated in a file; None for each axis without one."""

NOT_STATED: Stated = (None, None, None)

# outside, two of three edges are those of another unit: a printer's dots per inch, mm or nm in place of µm
_SMALLEST_UM, _LARGEST_UM = 0.005, 20.0

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

_MINUTES = {  # singular; see `_plain_time`
    "ns": 1 / 6e10, "nanosecond": 1 / 6e10, "us": 1 / 6e7, "usec": 1 / 6e7, "microsecond": 1 / 6e7,
    "ms": 1 / 60_000, "msec": 1 / 60_000, "millisecond": 1 / 60_000,
    "s": 1 / 60, "sec": 1 / 60, "second": 1 / 60, "min": 1.0, "minute": 1.0,
    "h": 60.0, "hr": 60.0, "hour": 60.0, "d": 1440.0, "day": 1440.0,
}  # fmt: skip


def to_um(value: object, unit: object) -> float | None:
    r"""Convert a length stated in a file to µm.

    Return None if `value`, a number or its text, is not positive and finite, or if `unit` is not a unit of
    length such as ``micron``, ``µm``, ``um``, ``\u00B5m`` (ImageJ's escape), ``nm`` or ``mm``.
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
    """Convert a time between frames stated in a file to minutes.

    Return None if `value`, a number or its text, is not positive and finite, or if `unit` is not a unit of
    time such as ``ms``, ``s``, ``Seconds``, ``min.``, ``hours`` or ``day``.
    """
    try:
        minutes = float(value) * _MINUTES[_plain_time(unit)]  # type: ignore[arg-type]
    except (TypeError, ValueError, KeyError):
        return None
    return minutes if 0 < minutes < math.inf else None


def check_spacing(spacing: Sequence[float], source: str | PathLike[str]) -> tuple[float, float, float]:
    """Validate a voxel size (z, y, x) in µm and return it as floats.

    Raises
    ------
    InputError
        If `spacing` is not three finite positive numbers; the message names the file `source`.
    """
    try:
        values = tuple(float(value) for value in spacing)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(math.isfinite(value) and value > 0 for value in values):
        shown = " ".join(str(value) for value in spacing) if isinstance(spacing, Sequence) else str(spacing)
        raise InputError(
            f"{source}: expected a voxel size of 3 finite positive numbers in µm, got {shown}: "
            "give --spacing Z Y X"
        )
    return values[0], values[1], values[2]


def _check_plausible(spacing: tuple[float, float, float], source: str | PathLike[str]) -> None:
    """Refuse a stated voxel size that cannot be of a microscope's image of nuclei."""
    if min(spacing) < _SMALLEST_UM or sorted(spacing)[1] > _LARGEST_UM:
        shown = " × ".join(f"{size:.4g}" for size in spacing)
        raise InputError(
            f"{source}: expected voxels of {_SMALLEST_UM:g} to {_LARGEST_UM:g} µm, as microscopes take of "
            f"nuclei, got {shown} µm: give the right size with --spacing Z Y X"
        )


def resolve_spacing(
    stated: Stated, given: Sequence[float] | None, source: str | PathLike[str]
) -> tuple[float, float, float]:
    """Return the voxel size (z, y, x) in µm: `given`, or else `stated` in the file.

    Raises
    ------
    InputError
        If `given` is not a voxel size, or is None and `stated` is incomplete or cannot be of an image of
        nuclei; the message names `source`.
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
    _check_plausible((z, y, x), source)
    return z, y, x


def _plain_time(unit: object) -> str:
    """Return a unit of time in lower case, in the singular and without a full stop."""
    text = re.sub(r"\\u00b5|[µμ]", "u", str(unit or "").strip().rstrip("."), flags=re.IGNORECASE).lower()
    return text if text in _MINUTES else text.removesuffix("s")


def _plain_unit(unit: object) -> str:
    text = re.sub(r"\\u00b5|[µμ]", "u", str(unit or "").strip(), flags=re.IGNORECASE)
    # Case distinguishes short units only (mm and Mm).
    return text.lower() if len(text) > 2 or text == "Å" else text
