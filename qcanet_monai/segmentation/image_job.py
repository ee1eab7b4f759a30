"""Job of a batch: segment one image, write its files, cache its rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcanet_monai.errors import InputError, OutputError
from qcanet_monai.io import Volume, read_labels, read_volume
from qcanet_monai.io.names import Frame, image_stem
from qcanet_monai.segmentation.files import files_of, nucleus_rows, scale_of, timepoint_row, write_files
from qcanet_monai.segmentation.result import Method, Segmentation
from qcanet_monai.segmentation.result_cache import Finished, ResultCache


@dataclass(frozen=True)
class ImageJob:
    """Per-image job of ``segment_files``; `uncertain` adds an uncertainty map."""

    output: Path
    done: ResultCache
    spacing: Sequence[float] | None
    channel: int | None
    frame: int | None
    uncertain: bool = False
    invert: bool | None = None
    strict: bool = False

    def rows(self, image: Path | Frame) -> Finished | None:
        """Return the rows of a finished image, else None."""
        stem, path = image_stem(image), image.path if isinstance(image, Frame) else image
        return self.done.read(stem, path, self._files(stem))

    def check(self, image: Path | Frame) -> None:
        """Raise OutputError if the results would replace those of another image."""
        path, stem = image.path if isinstance(image, Frame) else image, image_stem(image)
        other = self.done.other_source(stem, path)
        if other is not None and self._files(stem)[0].is_file():
            raise OutputError(
                f"{self.output} holds the results of {other}, which has the name of {path}: give another "
                "--out, or rename it"
            )
        if self.done.unknown(stem, self._files(stem)[0]):
            raise OutputError(
                f"{self._files(stem)[0]} was not made by `qcanet segment`: measure it with `qcanet measure "
                f"{self.output}`, or give another --out"
            )

    def run(self, image: Path | Frame, segmenter: Method) -> None:
        """Segment an image, write its files, mark it as finished; or raise QCANetError."""
        begun = time.perf_counter()
        path, frame = image if isinstance(image, Frame) else (image, self.frame)
        stem = image_stem(image)
        volume = read_volume(
            path, spacing=self.spacing, channel=self.channel, frame=frame, invert=self.invert
        )
        files = self._files(stem)
        edited = self.done.edited(stem, files[0])
        found = _measured(files[0], volume, segmenter) if edited else segmenter(volume)
        doubts = [*volume.doubts, *found.doubts]
        if doubts and self.strict:
            raise InputError(f"{image}: {'; '.join(doubts)}")
        if not edited:
            self.done.begin(stem, path)
        write_files(
            files, volume, found.labels, found.table, title=stem, spread=found.spread, keep_labels=edited
        )
        timepoint = timepoint_row(found.table, found.integral, time.perf_counter() - begun, found.evidence)
        rows = Finished(nucleus_rows(found.table), timepoint, doubts, scale_of(found.scale))
        self.done.write(stem, path, files[0], rows, edited=edited)

    def _files(self, stem: str) -> list[Path]:
        return files_of(self.output, stem, uncertain=self.uncertain)


def _measured(path: Path, volume: Volume, segmenter: Method) -> Segmentation:
    """Measure the label image of a volume."""
    labels = read_labels(path, spacing=volume.spacing).array
    if labels.shape != volume.array.shape:
        raise InputError(
            f"expected {path} to have the shape of its image, {volume.array.shape}, got {labels.shape}: "
            "restore it, or delete it to segment again"
        )
    return segmenter.measure(volume, labels)
