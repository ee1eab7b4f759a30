"""Tracked series in the Cell Tracking Challenge format: label images and lineage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qcanet_monai.core.metrics.tracks import Track, check_tracks
from qcanet_monai.errors import InputError
from qcanet_monai.io.atomic import replacing
from qcanet_monai.io.names import natural_key


def write_tracks(path: str | Path, tracks: Sequence[Track]) -> None:
    """Write ``res_track.txt`` or ``man_track.txt``, a line ``L B E P`` per track.

    Raises
    ------
    InputError
        If the tracks are not a valid lineage.
    OutputError
        If the file cannot be written.
    """
    check_tracks(tracks)
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{t.label} {t.begin} {t.end} {t.parent}\n" for t in tracks))


def read_tracks(path: str | Path) -> list[Track]:
    """Read lines ``L B E P``: label, first and last frame, and parent label or 0.

    Raises
    ------
    InputError
        If the file cannot be read, a line is malformed, or the tracks are not a valid lineage.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: expected lines `label begin end parent`") from error
    tracks = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            tracks.append(Track(*map(int, line.split())))
        except (TypeError, ValueError):
            raise InputError(
                f"{path}, line {number}: expected four integers `label begin end parent`, got {line!r}"
            ) from None
    check_tracks(tracks)
    return tracks


def mask_name(frame: int, *, kind: str = "mask") -> str:
    """Return a label image's name, such as ``mask007.tif`` or ``man_track007.tif``."""
    return f"{kind}{frame:03d}.tif"


def tracked_images(folder: str | Path) -> tuple[list[Path], list[Track]]:
    """Return the label images of a tracked series, ordered by frame, and its tracks.

    The folder holds ``mask*.tif`` and ``res_track.txt``, or ``man_track*.tif`` and ``man_track.txt``.

    Raises
    ------
    InputError
        If the folder holds neither, or frames are not numbered from 0 without gaps.
    """
    folder = Path(folder)
    for kind, table in (("mask", "res_track.txt"), ("man_track", "man_track.txt")):
        if not (folder / table).is_file():
            continue
        paths = sorted(folder.glob(f"{kind}*.tif"), key=lambda path: natural_key(path.name))
        frames = [path.stem.removeprefix(kind) for path in paths]
        if not paths or [int(frame) if frame.isdecimal() else -1 for frame in frames] != [*range(len(paths))]:
            raise InputError(f"expected {kind}000.tif, {kind}001.tif, … in {folder}, got {len(paths)} images")
        return paths, read_tracks(folder / table)
    raise InputError(
        f"expected res_track.txt or man_track.txt in {folder}, got neither: give a tracked series"
    )


def is_tracked(folder: str | Path) -> bool:
    """Return True if a folder holds a tracked series."""
    return any((Path(folder) / name).is_file() for name in ("res_track.txt", "man_track.txt"))
