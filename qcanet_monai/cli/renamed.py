"""Former names of options, accepted for one more version."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_INTERVAL = {"--interval": "--interval-min"}
_SEGMENT = {
    **_INTERVAL,
    "--grid": "--isotropic-spacing-um",
    "--flips": "--test-time-augmentation",
    "--no-flips": "--no-test-time-augmentation",
    "--uncertainty": "--n-samples",
}
_TRACK = {
    "--reach": "--max-distance-um",
    "--daughters": "--max-splitting-distance-um",
    "--gap": "--max-frame-gap",
}
RENAMED = {
    "adapt": {"--twins": "--n-matches"},
    "criteria": _INTERVAL,
    "segment": _SEGMENT,
    "simulate": {"--tissue": "--tissue-fraction"},
    "track": _TRACK,
    "volume": _INTERVAL,
}


def renamed(arguments: Sequence[str]) -> list[str]:
    """Replace former option names; print a one-line notice for each."""
    names = RENAMED.get(arguments[0], {}) if arguments else {}
    found = []
    for argument in arguments:
        option, sign, value = argument.partition("=")
        if option in names:
            print(f"qcanet: {option} is now {names[option]}; old name removed in 0.3", file=sys.stderr)
            argument = f"{names[option]}{sign}{value}"
        found.append(argument)
    return found
