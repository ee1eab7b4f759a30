"""Tables and settings as text: CSV with units in the column names, JSON; whole or not at all."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcanet_monai.errors import InputError
from qcanet_monai.io.atomic import replacing

__all__ = ["Row", "read_csv", "write_csv", "write_json"]

Row = dict[str, Any]
Columns = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


def write_csv(
    path: str | PathLike[str],
    table: Columns | Sequence[Mapping[str, Any]],
    *,
    header: Sequence[str] | None = None,
) -> None:
    """Write a table; floats with six significant digits, NaN and None as empty cells.

    Parameters
    ----------
    path : path-like
        The file.
    table : mapping of str to sequence, or sequence of mappings
        Columns of one length, or rows with the same keys.
    header : sequence of str, optional
        The columns to write and their order; needed for a table without rows that has no columns either.

    Raises
    ------
    OutputError
        If the file cannot be written.
    ValueError
        If columns differ in length or a row lacks a column or has one too many.
    """
    names, rows = _from_columns(table, header) if isinstance(table, Mapping) else _from_rows(table, header)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(value) for value in row] for row in rows)


def read_csv(path: str | PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Read a table back.

    Parameters
    ----------
    path : path-like
        A CSV file with a header.

    Returns
    -------
    dict of str to ndarray, shape (rows,)
        int64 where every cell is a whole number, float64 where every cell is a number or empty (NaN),
        else str; ``image``, a name, is str whatever it looks like.

    Raises
    ------
    InputError
        If the file is missing, no text, without a header, or a row has more or fewer cells than the header.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV table in UTF-8: {error}") from error
    if not lines or len(set(lines[0])) < len(lines[0]):
        raise InputError(f"{path} is no table: expected a first line with distinct column names")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(lines[0]):
            raise InputError(f"{path}, row {number}: expected {len(lines[0])} cells, got {len(line)}")
    columns = {name: [line[i] for line in lines[1:]] for i, name in enumerate(lines[0])}
    return {
        name: np.array(cells, np.str_) if name == "image" else _column(cells)
        for name, cells in columns.items()
    }


def write_json(path: str | PathLike[str], obj: Any) -> None:
    """Write settings or results as JSON that any reader accepts: NaN and infinities become null.

    Parameters
    ----------
    path : path-like
        The file.
    obj : object
        Mappings, sequences, numbers and text; NumPy arrays and scalars and paths are converted.

    Raises
    ------
    OutputError
        If the file cannot be written.
    TypeError
        If `obj` holds something else.
    """
    text = json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _from_columns(table: Columns, header: Sequence[str] | None) -> tuple[list[str], Iterable[Sequence[Any]]]:
    names = list(table) if header is None else list(header)
    lengths = {name: len(table[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns must have one length, got {lengths}")
    return names, zip(*(table[name] for name in names), strict=True)


def _from_rows(
    table: Sequence[Mapping[str, Any]], header: Sequence[str] | None
) -> tuple[list[str], Iterable[Sequence[Any]]]:
    names = list(header) if header is not None else list(table[0]) if table else []
    for number, row in enumerate(table):
        if set(row) != set(names):
            raise ValueError(f"row {number}: expected the columns {names}, got {list(row)}")
    return names, ([row[name] for name in names] for row in table)


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.6g}"
    return "" if value is None else str(value)


def _column(cells: list[str]) -> npt.NDArray[Any]:
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        return np.array([float(cell) if cell else math.nan for cell in cells], dtype=np.float64)
    except ValueError:
        return np.array(cells, dtype=np.str_)


def _plain(obj: Any) -> Any:
    """Convert to what `json` writes by itself."""
    if isinstance(obj, Mapping):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    if isinstance(obj, np.ndarray | np.generic):
        return _plain(obj.tolist())
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    return str(obj) if isinstance(obj, Path) else obj
