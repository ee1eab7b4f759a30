"""Tracking of segmented series: linked nuclei, divisions and repaired labels."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.core.measure.criteria import centroids_of
from qcanet_monai.core.measure.nuclei import Table, nucleus_table
from qcanet_monai.core.metrics.tracks import Track, tracks_of
from qcanet_monai.core.repair import moved, put_back
from qcanet_monai.core.resample import Spacing
from qcanet_monai.errors import InputError
from qcanet_monai.io import output_folder, read_labels, write_csv, write_labels
from qcanet_monai.io.label_digests import record_labels, recorded_labels
from qcanet_monai.io.names import Series, group_series, label_stem
from qcanet_monai.io.tables import Row
from qcanet_monai.timelapse.criteria import read_tables
from qcanet_monai.timelapse.ctc import mask_name, write_tracks
from qcanet_monai.timelapse.linking import Linking, Node, link

Image = NDArray[np.unsignedinteger]


class Tracked(NamedTuple):
    """Tracked series; `repairs` counts nuclei split, restored or left out."""

    series: Series
    tracks: list[Track]
    repairs: dict[str, int]


def track(
    folder: str | Path,
    *,
    max_distance_um: float = 20.0,
    max_splitting_distance_um: float = 25.0,
    max_frame_gap: int = 2,
    progress: Callable[[], None] = lambda: None,
) -> list[Tracked]:
    """Link the nuclei of segmented series over time, and detect divisions.

    Writes to ``FOLDER/tracks``. Per series: ``NAME_RES/mask000.tif``, … and ``NAME_RES/res_track.txt`` in the
    Cell Tracking Challenge format, with frames renumbered from 0 without gaps. Over all series:
    ``timepoints.csv``, ``tracks.csv`` and ``nuclei.csv``. The latter has the columns of `segment`, where
    ``label`` is the track, plus ``parent`` (0 if none) and ``repair`` (``no``, ``split`` or ``restored``).
    Polar bodies are excluded: small nuclei that outlast a cell cycle without dividing.

    Returns one `Tracked` per series.

    Parameters
    ----------
    folder
        Output folder of `segment`.
    max_distance_um
        Maximum displacement of a nucleus between frames, in µm.
    max_splitting_distance_um
        Maximum distance of a daughter from its mother, in µm.
    max_frame_gap
        Maximum number of consecutive frames in which a nucleus may be missing.
    progress
        Called after each frame.

    Raises
    ------
    InputError
        If the folder's tables and label images do not match.
    OutputError
        If the folder is not writable.

    Examples
    --------
    >>> import numpy as np
    >>> import qcanet_monai as qcanet
    >>> z, y, x = np.ogrid[:20, :48, :48]  # a nucleus of 12 µm
    >>> inside = ((z - 10) * 1.75) ** 2 + ((y - 24) * 0.8) ** 2 + ((x - 24) * 0.8) ** 2 < 6**2
    >>> image = np.where(inside, 900, 100)
    >>> model = qcanet.load("qcanet")
    >>> for frame in range(2):
    ...     model.segment(image, spacing=(1.75, 0.8, 0.8)).save("series", name=f"embryo_t{frame}")
    >>> [len(series.tracks) for series in qcanet.track("series")]
    [1]
    """
    folder = Path(folder)
    nuclei, stems = read_tables(folder)
    linking = Linking(max_distance_um, max_splitting_distance_um, max_frame_gap)
    out = output_folder(folder / "tracks")
    tracked, rows, timepoints, tracks = [], [], [], []
    for series in group_series(stems):
        writer = _Writer(folder, series, nuclei, linking)
        found, mine = writer.run(output_folder(out / f"{series.name}_RES"), progress)
        tracked.append(found)
        rows += mine
        for place, (stem, frame) in enumerate(zip(series.stems, series.frames, strict=True)):
            timepoints.append({"image": stem, "frame": frame, "place": place})
        tracks += _track_rows(found)
    write_csv(out / "nuclei.csv", rows, header=[*nuclei, "parent", "repair"])
    write_csv(out / "timepoints.csv", timepoints)
    masks = [path for series in tracked for path in (out / f"{series.series.name}_RES").glob("mask*.tif")]
    record_labels(out, [*recorded_labels(folder), *masks])
    write_csv(out / "tracks.csv", tracks, header=["embryo", "track", "begin", "end", "parent", "n_daughters"])
    return tracked


class _Writer:
    """Single pass over a series that keeps only the last few frames in memory."""

    def __init__(self, folder: Path, series: Series, nuclei: Table, linking: Linking) -> None:
        self.folder, self.series, self.linking = folder, series, linking
        self.labels = {label_stem(path): path for path in recorded_labels(folder)}
        stems = nuclei["image"].astype(str)
        self.tables: list[Table] = [
            {name: column[stems == stem] for name, column in nuclei.items()} for stem in series.stems
        ]
        self.centroids = [centroids_of(table) for table in self.tables]
        volumes = [table["volume_um3"].astype(float) for table in self.tables]
        self.paths = link(self.centroids, linking, volumes)
        self.recent: deque[Image] = deque(maxlen=linking.max_frame_gap + 2)
        self.renamed: dict[int, int] = {}
        self.last = max((int(ids.max()) for ids in self.paths.identities if len(ids)), default=0)
        self.parents = dict(self.paths.parents)
        self.repairs = {"left out": self.paths.bodies} if self.paths.bodies else {}

    def run(self, out: Path, progress: Callable[[], None]) -> tuple[Tracked, list[Row]]:
        """Write every frame; return the tracked series and the rows of its nuclei."""
        rows: list[Row] = []
        shown = []
        for frame in range(len(self.tables)):
            image, spacing = self._read(frame)
            repairs = self._mend(frame, image, spacing)
            self.recent.append(image)
            write_labels(out / mask_name(frame), image, spacing=spacing)
            shown.append(np.unique(image[image > 0]))
            rows += self._rows(frame, image, spacing, repairs)
            progress()
        names = {mask_name(frame) for frame in range(len(shown))}
        for stale in out.glob("mask*.tif"):  # left by a longer series tracked earlier
            if stale.name not in names:
                stale.unlink()
        tracks = tracks_of(shown, self.parents)
        write_tracks(out / "res_track.txt", tracks)
        return Tracked(self.series, tracks, self.repairs), rows

    def _read(self, frame: int) -> tuple[Image, Spacing]:
        """Read a frame's labels, renumbered by track, and its spacing."""
        stem = self.series.stems[frame]
        path = self.labels.get(stem, self.folder / f"{stem}_labels.tif")
        volume = read_labels(path)
        labels = self.tables[frame]["label"].astype(np.int64)
        if not np.array_equal(np.unique(volume.array[volume.array > 0]), np.sort(labels)):
            raise InputError(f"expected {path} to hold the labels of nuclei.csv, got others: segment again")
        for before, after in self.paths.gaps:
            if after[0] == frame and not self._bridged(before):
                self._cut(before)
        table = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
        table[labels] = [self._name(int(one)) for one in self.paths.identities[frame]]
        for one in self.paths.identities[frame].tolist():
            if one in self.parents and self._name(one) == one:
                self.parents[one] = self._name(self.parents[one])
        return table[volume.array], volume.spacing

    def _name(self, identity: int) -> int:
        """Return a track's current label, which changes after a gap that was not filled."""
        while identity in self.renamed:
            identity = self.renamed[identity]
        return identity

    def _bridged(self, before: Node) -> bool:
        """Return True if the previous frame holds the track, so that its gap was filled."""
        name = self._name(int(self.paths.identities[before[0]][before[1]]))
        return bool((self.recent[-1] == name).any())

    def _cut(self, before: Node) -> None:
        name = self._name(int(self.paths.identities[before[0]][before[1]]))
        self.last += 1
        self.renamed[name] = self.last
        self.parents[self.last] = name

    def _mend(self, frame: int, image: Image, spacing: Spacing) -> dict[int, str]:
        """Restore nuclei missing from a frame, in place; return repair kinds by label."""
        repairs: dict[int, str] = {}
        for before, after in self.paths.gaps:
            if not before[0] < frame < after[0]:
                continue
            name = self._name(int(self.paths.identities[before[0]][before[1]]))
            past, previous = self.recent[before[0] - frame], self.recent[-1]
            if not past.shape == previous.shape == image.shape:
                continue  # positions are not comparable
            start, end = (self.centroids[node[0]][node[1]] for node in (before, after))
            shift = (end - start) * (frame - before[0]) / (after[0] - before[0])
            lacking = moved(past == name, shift, spacing=spacing)
            around = [int(label) for label in np.unique(image[lacking]) if label]
            expected = {label: np.asarray(previous == label) for label in around}
            kind = put_back(image, lacking, name, spacing=spacing, expected=expected)
            if kind is not None:
                repairs[name] = kind
                self.repairs[kind] = self.repairs.get(kind, 0) + 1
        return repairs

    def _rows(self, frame: int, image: Image, spacing: Spacing, repairs: dict[int, str]) -> list[Row]:
        names = [self._name(int(one)) for one in self.paths.identities[frame]]
        measured = nucleus_table(image, spacing=spacing)
        known = {
            column: dict(zip(names, values.tolist(), strict=True))
            for column, values in self.tables[frame].items()
            if column not in {"image", "frame", *measured}
        }
        stem, number = self.series.stems[frame], self.series.frames[frame]
        rows = []
        for place, label in enumerate(measured["label"].tolist()):
            values = {key: column[place] for key, column in measured.items()}
            repair = repairs.get(label, "no")
            kept = {name: by[label] if repair == "no" else math.nan for name, by in known.items()}
            kept["recovered"] = known["recovered"].get(label, 0)
            found = {"parent": self.parents.get(label, 0), "repair": repair}
            rows.append({"image": stem, "frame": number, **values, **kept, **found})
        return rows


def _track_rows(found: Tracked) -> list[Row]:
    frames = found.series.frames
    return [
        {
            "embryo": found.series.name,
            "track": track.label,
            "begin": frames[track.begin],
            "end": frames[track.end],
            "parent": track.parent,
            "n_daughters": sum(other.parent == track.label for other in found.tracks),
        }
        for track in found.tracks
    ]
