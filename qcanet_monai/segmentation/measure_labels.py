"""Measure the label images of a folder, also edited ones and those of others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import qcanet_monai
from qcanet_monai.core.instances.instances import Instances
from qcanet_monai.core.measure.evidence import evidence
from qcanet_monai.errors import InputError
from qcanet_monai.io import output_folder, read_csv, read_labels, read_volume, write_json
from qcanet_monai.io.names import Frame, frames_of, image_stem, interval_of, label_stem, list_images
from qcanet_monai.plot.overlay import write_overlay
from qcanet_monai.segmentation.files import (
    columns_of,
    files_of,
    image_of,
    nucleus_rows,
    read_run,
    timepoint_row,
    write_tables,
)
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.segmentation.result import Segmentation, measure
from qcanet_monai.segmentation.result_cache import Finished
from qcanet_monai.segmentation.segmenter import Segmenter

Image = Path | Frame


def measure_labels(
    folder: str | Path,
    *,
    images: Sequence[str | Path] = (),
    model: str | None = None,
    spacing: Sequence[float] | None = None,
    interval_min: float | None = None,
    tracking_uri: str | None = None,
) -> dict[str, int]:
    """Measure the label images of a folder; write ``nuclei.csv``, ``timepoints.csv``.

    Label images are ``STEM_labels.tif``, or without any such all images in the folder; they stay as they
    are. Where an image is known, ``STEM_overlay.png`` is drawn again, and the confidence measured with the
    model that ``run.json`` names. Settings in ``run.json`` are kept.

    Returns the number of nuclei per image stem.

    Parameters
    ----------
    folder
        Output folder of ``qcanet segment``, or label images of another program.
    images
        Images or folders of images with the labels' stems; by default those that ``run.json`` names.
    model, tracking_uri
        Model that measures the confidence, see `load_segmenter`; by default that of ``run.json``.
    spacing
        Voxel size (z, y, x) in µm, for label images that do not state it.
    interval_min
        Minutes between frames; by default as before, or as stated by the files.

    Raises
    ------
    InputError
        If the folder holds no label images, or one cannot be read or does not fit its image.
    OutputError
        If the folder is not writable.

    Examples
    --------
    >>> import numpy as np
    >>> import qcanet_monai as qcanet
    >>> z, y, x = np.ogrid[:20, :48, :48]  # a nucleus of 12 µm
    >>> inside = ((z - 10) * 1.75) ** 2 + ((y - 24) * 0.8) ** 2 + ((x - 24) * 0.8) ** 2 < 6**2
    >>> result = qcanet.load("qcanet").segment(np.where(inside, 900, 100), spacing=(1.75, 0.8, 0.8))
    >>> result.save("OUT", name="embryo")
    >>> qcanet.measure("OUT")
    {'embryo': 1}
    """
    folder = Path(folder)
    run = read_run(folder)
    labels = _label_images(folder, images)
    named = {image_stem(image): image for image in map(image_of, run.get("images", {}))}
    known = {**named, **{image_stem(image): image for image in frames_of(list_images(images))}}
    there = {stem: image for stem, image in known.items() if _path(image).exists()}
    segmenter = _segmenter(run, model, tracking_uri) if any(stem in there for stem in labels) else None
    uncertain, counts = (
        (folder / name).is_file() and column in read_csv(folder / name)
        for name, column in (("nuclei.csv", "uncertainty_um"), ("timepoints.csv", "integral_n_nuclei"))
    )
    found: dict[Image, Finished] = {}
    for stem, label_image in labels.items():
        result = _measured(label_image, there.get(stem), folder, segmenter, spacing, run, uncertain)
        integral = (math.nan if result.integral is None else result.integral) if counts else None
        row = timepoint_row(result.table, integral, math.nan, result.evidence)
        found[known.get(stem, Path(stem))] = Finished(nucleus_rows(result.table), row, [], {})
        columns = columns_of(result.table, integral)
    output_folder(folder)
    write_tables(folder, [*found], found, columns, map(_path, labels.values()), others=False)
    write_json(
        folder / "run.json",
        {"qcanet_monai": qcanet_monai.__version__, "failures": {}, **run}
        | {"images": {str(image): len(rows.nuclei) for image, rows in found.items()}}
        | {"interval_min": interval_min or run.get("interval_min") or interval_of(labels.values())},
    )
    return {image_stem(image): len(rows.nuclei) for image, rows in found.items()}


def _label_images(folder: Path, images: Sequence[str | Path]) -> dict[str, Image]:
    """Return the label images of a folder by the stem of their image."""
    if not folder.is_dir():
        raise InputError(
            f"expected a folder of label images, got {folder}: give the output of `qcanet segment`"
        )
    given = {Path(image).resolve() for image in images}
    files = [path for path in list_images([folder]) if path.resolve() not in given]
    own = [path for path in files if path.name.endswith("_labels.tif")]
    return {label_stem(image): image for image in frames_of(own or files)}


def _path(image: Image) -> Path:
    return image.path if isinstance(image, Frame) else image


def _segmenter(run: Mapping[str, Any], model: str | None, tracking_uri: str | None) -> Segmenter | None:
    """Load the model that measures confidence; None without one."""
    if model is not None:
        return load_segmenter(model, tracking_uri=tracking_uri)
    if "bundle" not in run:
        return None
    parts = {name: part["reference"] for name, part in run["models"].items() if name != "model"}
    return load_segmenter(run["bundle"], tracking_uri=tracking_uri, **{**run.get("overrides", {}), **parts})


def _measured(
    label_image: Image,
    image: Image | None,
    folder: Path,
    segmenter: Segmenter | None,
    spacing: Sequence[float] | None,
    run: Mapping[str, Any],
    uncertain: bool,
) -> Segmentation:
    path, frame = label_image if isinstance(label_image, Frame) else (label_image, None)
    labels = read_labels(path, spacing=spacing, frame=frame)
    if image is None:
        table = measure(Instances(labels.array), spacing=labels.spacing, uncertain=uncertain)
        return Segmentation(labels.array, table)
    source, number = image if isinstance(image, Frame) else (image, run.get("frame"))
    volume = read_volume(
        source, spacing=labels.spacing, channel=run.get("channel"), frame=number, invert=run.get("invert")
    )
    if volume.array.shape != labels.array.shape:
        raise InputError(
            f"expected {path} to have the shape of {image}, {volume.array.shape}, got {labels.array.shape}: "
            "restore it, or give its image with --images"
        )
    overlay = files_of(folder, image_stem(image), uncertain=False)[1]
    write_overlay(overlay, volume.array, labels.array, spacing=volume.spacing, title=image_stem(image))
    given = Instances(labels.array)
    if segmenter is not None:
        given = segmenter.instances(volume)._replace(labels=labels.array, recovered=given.recovered)
    table = measure(given, spacing=volume.spacing, image=volume.array, uncertain=uncertain)
    shown = evidence(volume.array, labels.array)
    return Segmentation(labels.array, table, integral=given.integral, evidence=shown)
