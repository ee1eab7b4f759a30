"""One image of a batch, from its file to its labels, picture and rows, in whatever process that happens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcanet_monai.core.measure.criteria import timepoint_criteria
from qcanet_monai.io import Volume, read_volume, write_labels
from qcanet_monai.io.names import Frame, image_stem
from qcanet_monai.io.tables import Row
from qcanet_monai.plot.overlay import write_overlay
from qcanet_monai.segmentation.result import Method, Segmentation
from qcanet_monai.segmentation.result_cache import ResultCache


def nucleus_rows(found: Segmentation) -> list[Row]:
    """The nuclei, a row each."""
    columns = found.table
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def timepoint_row(found: Segmentation, seconds: float) -> Row:
    """What the nuclei of one image sum up to, and how long it took."""
    integral = {} if found.integral is None else {"integral_n_nuclei": found.integral}
    return {**timepoint_criteria(found.table), **integral, "seconds": seconds}


def files_of(output: Path, stem: str, *, uncertain: bool) -> list[Path]:
    """Return the files of one image: labels, overlay and, if `uncertain`, a map of the uncertainty."""
    kinds = ["labels.tif", "overlay.png"] + (["uncertainty.png"] if uncertain else [])
    return [output / f"{stem}_{kind}" for kind in kinds]


def write_files(found: Segmentation, volume: Volume, files: Sequence[Path], *, title: str) -> None:
    """Write the files of one image, see `files_of`.

    Raises
    ------
    OutputError
        If one cannot be written.
    """
    labels, overlay, *maps = files
    write_labels(labels, found.labels, spacing=volume.spacing)
    write_overlay(overlay, volume.array, found.labels, spacing=volume.spacing, title=title)
    for path in maps:
        from qcanet_monai.plot.uncertainty_map import write_uncertainty_map  # matplotlib takes its time

        write_uncertainty_map(
            path,
            volume.array,
            found.labels,
            found.table["uncertainty_um"].astype(np.float64),
            spacing=volume.spacing,
            title=title,
            spread=found.spread,
        )


@dataclass(frozen=True)
class ImageJob:
    """What is to be done with each image; the parameters are those of ``segment_files``.

    Where it is `uncertain`, a picture of that is drawn as well.
    """

    output: Path
    done: ResultCache
    spacing: Sequence[float] | None
    channel: int | None
    frame: int | None
    uncertain: bool = False

    def rows(self, image: Path | Frame) -> tuple[list[Row], Row] | None:
        """Rows of the nuclei and of the time point of an image that is done, else None."""
        stem, path = image_stem(image), image.path if isinstance(image, Frame) else image
        return self.done.read(stem, path, self._files(stem))

    def run(self, image: Path | Frame, segmenter: Method) -> None:
        """Segment an image, write its labels and picture, and then that it is done.

        Raises
        ------
        QCANetError
            If the image cannot be read or segmented, or its results cannot be written.
        """
        begun = time.perf_counter()
        path, frame = image if isinstance(image, Frame) else (image, self.frame)
        stem = image_stem(image)
        volume = read_volume(path, spacing=self.spacing, channel=self.channel, frame=frame)
        found = segmenter(volume)
        write_files(found, volume, self._files(stem), title=stem)
        timepoint = timepoint_row(found, time.perf_counter() - begun)
        self.done.write(stem, path, nucleus_rows(found), timepoint)

    def _files(self, stem: str) -> list[Path]:
        return files_of(self.output, stem, uncertain=self.uncertain)
