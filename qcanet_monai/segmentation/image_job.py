"""Job of a batch: segment one image, write its files, cache its rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcanet_monai.errors import OutputError
from qcanet_monai.io import read_volume
from qcanet_monai.io.names import Frame, image_stem
from qcanet_monai.io.tables import Row
from qcanet_monai.segmentation.files import files_of, nucleus_rows, timepoint_row, write_files
from qcanet_monai.segmentation.result import Method
from qcanet_monai.segmentation.result_cache import ResultCache


@dataclass(frozen=True)
class ImageJob:
    """Per-image job of ``segment_files``; `uncertain` adds an uncertainty map."""

    output: Path
    done: ResultCache
    spacing: Sequence[float] | None
    channel: int | None
    frame: int | None
    uncertain: bool = False

    def rows(self, image: Path | Frame) -> tuple[list[Row], Row] | None:
        """Return the nucleus rows and the time point row of a finished image, else None."""
        stem, path = image_stem(image), image.path if isinstance(image, Frame) else image
        return self.done.read(stem, path, self._files(stem))

    def check(self, image: Path | Frame) -> None:
        """Raise OutputError if the image's results would replace those of another image."""
        path, stem = image.path if isinstance(image, Frame) else image, image_stem(image)
        other = self.done.other_source(stem, path)
        if other is not None and self._files(stem)[0].is_file():
            raise OutputError(
                f"{self.output} holds the results of {other}, which has the name of {path}: give another "
                "--out, or rename it"
            )

    def run(self, image: Path | Frame, segmenter: Method) -> None:
        """Segment an image, write its files, mark it as finished; or raise QCANetError."""
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
