"""One image of a batch, from its file to its labels, picture and rows, in whatever process that happens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcanet_monai.io import read_volume
from qcanet_monai.io.names import Frame, image_stem
from qcanet_monai.io.tables import Row
from qcanet_monai.segmentation.files import files_of, nucleus_rows, timepoint_row, write_files
from qcanet_monai.segmentation.result import Method
from qcanet_monai.segmentation.result_cache import ResultCache


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
        files = self._files(stem)
        write_files(files, volume, found.labels, found.table, title=stem, spread=found.spread)
        timepoint = timepoint_row(found.table, found.integral, time.perf_counter() - begun)
        self.done.write(stem, path, nucleus_rows(found.table), timepoint)

    def _files(self, stem: str) -> list[Path]:
        return files_of(self.output, stem, uncertain=self.uncertain)
