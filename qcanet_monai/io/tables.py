"""CSV tables with units in the column names, and JSON; written atomically."""

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

Row = dict[str, Any]
Columns = Mapping[str, Sequence[Any] | npt.NDArray[Any]]


def write_csv(
    path: str | PathLike[str],
    table: Columns | Sequence[Mapping[str, Any]],
    *,
    header: Sequence[str] | None = None,
) -> None:
    """Write a table: six significant digits, empty cells for NaN and None.

    Parameters
    ----------
    path : path-like
        CSV file.
    table : mapping of str to sequence, or sequence of mappings
        Columns of equal length, or rows with the same keys.
    header : sequence of str, optional
        Columns to write, in order; needed to name the columns of an empty sequence of rows.

    Raises
    ------
    OutputError
        If the file cannot be written.
    ValueError
        If columns differ in length, or a row has other keys than `header` or the first row.
    """
    names, rows = _from_columns(table, header) if isinstance(table, Mapping) else _from_rows(table, header)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(value) for value in row] for row in rows)


def read_csv(path: str | PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Read the columns of a CSV table in UTF-8 with a header.

    Returns
    -------
    dict of str to ndarray, shape (rows,)
        int64 if every cell is an integer, float64 if every cell is a number or empty (NaN), else str.
        The column ``image`` is always str.

    Raises
    ------
    InputError
        If the file is missing, not UTF-8, has no header, or a row and the header differ in length.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: expected a CSV table in UTF-8, got an error ({error}): save it as UTF-8"
        ) from error
    if not lines or len(set(lines[0])) < len(lines[0]):
        raise InputError(
            f"{path}: expected distinct column names in line 1, got none or duplicates: correct them"
        )
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(lines[0]):
            raise InputError(f"{path}, row {number}: expected {len(lines[0])} cells, got {len(line)}")
    columns = {name: [line[i] for line in lines[1:]] for i, name in enumerate(lines[0])}
    return {
        name: np.array(cells, np.str_) if name == "image" else _column(cells)
        for name, cells in columns.items()
    }


def write_json(path: str | PathLike[str], obj: Any) -> None:
    """Write settings or results as JSON; NaN and infinities become null.

    Parameters
    ----------
    path : path-like
        JSON file.
    obj : object
        Mappings, lists, tuples, numbers, text, paths, and NumPy arrays and scalars.

    Raises
    ------
    OutputError
        If the file cannot be written.
    TypeError
        If `obj` holds another type.
    """
    text = json.dumps(_plain(obj), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _from_columns(table: Columns, header: Sequence[str] | None) -> tuple[list[str], Iterable[Sequence[Any]]]:
    names = list(table) if header is None else list(header)
    lengths = {name: len(table[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"expected columns of equal length, got {lengths}")
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
    if isinstance(obj, Mapping):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    if isinstance(obj, np.ndarray | np.generic):
        return _plain(obj.tolist())
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    return str(obj) if isinstance(obj, Path) else obj
