"""Errors of ``python -m monai.bundle`` in one line, and a check of its options.

The bundles import this module. MONAI wraps an error in several others, and sets options of any name.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from qcanet_monai.errors import InputError, QCANetError, root_cause


def check_options(arguments: Sequence[str]) -> None:
    """Refuse options of ``monai.bundle run`` that no configuration file has.

    Raises
    ------
    InputError
        With the key that was probably meant.
    """
    given = dict(_options(arguments))
    if "config_file" not in given:
        return
    from monai.bundle import ConfigParser, run

    files = _listed(given["config_file"]) + _listed(given.get("meta_file", "[]"))
    known = {*inspect.signature(run).parameters, "bundle_root"}
    for file in filter(Path.is_file, map(Path, files)):
        known |= {str(key).lstrip("+%~") for key in ConfigParser.load_config_file(file)}
    for key in given:
        name = key.partition("#")[0].partition("::")[0].lstrip("+%~")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean --{near[0]}?" if near else f"see {files[0]} for its keys"
            raise InputError(f"expected options that the configuration has, got --{key}: {meant}")


def _options(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Split ``--key value`` and ``--key=value``."""
    found = []
    for place, text in enumerate(arguments):
        if text.startswith("--"):
            key, equals, value = text[2:].partition("=")
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            found.append((key, value if equals else following))
    return found


def _listed(text: str) -> list[str]:
    """Return the files of an option: one, or a Python list of several."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return [text]
    return [str(one) for one in value] if isinstance(value, list | tuple) else [text]


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
    cause = root_cause(error)
    if isinstance(cause, QCANetError):
        print(f"qcanet: {cause}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _is_monai(main: Any) -> bool:
    return getattr(getattr(main, "__spec__", None), "name", "").startswith("monai.bundle")


if _is_monai(sys.modules.get("__main__")):
    sys.excepthook = _show
    try:
        check_options(sys.argv[1:])
    except InputError as error:  # MONAI would ignore an error of an import
        print(f"qcanet: {error}", file=sys.stderr)
        raise SystemExit(2) from None
