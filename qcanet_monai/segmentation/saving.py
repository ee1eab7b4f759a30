"""One result in a folder, as a batch would have written it."""

from __future__ import annotations

from pathlib import Path

import qcanet_monai
from qcanet_monai.errors import InputError
from qcanet_monai.io import output_folder, write_json
from qcanet_monai.io.names import image_stem
from qcanet_monai.segmentation.image_job import files_of, nucleus_rows, timepoint_row, write_files
from qcanet_monai.segmentation.result import Segmentation
from qcanet_monai.segmentation.tables import check_tables, columns_of, write_tables


def save_segmentation(found: Segmentation, folder: str | Path, *, name: str | None = None) -> None:
    """Write labels, overlay, tables and ``run.json``; see `Segmentation.save`."""
    if found.volume is None:
        raise InputError("expected a result of Segmenter.segment, which holds its image, got one without")
    source = found.volume.source
    if name is None and not source.exists():
        raise InputError("expected a name for an image that came from no file: save(folder, name=...)")
    image, output = Path(name) if name else source, Path(folder)
    stem = name or image_stem(source)
    output_folder(output)
    columns = columns_of(found)
    check_tables(output, columns)
    files = files_of(output, stem, uncertain="uncertainty_um" in found.table)
    write_files(found, found.volume, files, title=stem)
    rows = nucleus_rows(found), timepoint_row(found, found.seconds)
    write_tables(output, [image], {image: rows}, columns)
    run = {
        "qcanet_monai": qcanet_monai.__version__,
        "spacing_um": list(found.volume.spacing),
        "channel": None,
        "frame": found.volume.time_index,
        **found.method,
        "images": {str(image): len(found.table["label"])},
        "failures": {},
        "interval_min": None,
    }
    write_json(output / "run.json", run)
