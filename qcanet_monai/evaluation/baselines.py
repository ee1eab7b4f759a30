"""Comparison of QCANet with baselines on the same images and reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcanet_monai.core.instances.instances import Instances, Labels
from qcanet_monai.core.instances.otsu import otsu_watershed
from qcanet_monai.errors import InputError
from qcanet_monai.evaluation.comparison import Row, compare_methods
from qcanet_monai.io import Volume, output_folder
from qcanet_monai.io.names import Frame, frames_of, image_stem, label_stem, list_images
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.segmentation.result import Method, Segmentation, measure

OURS, WITHOUT, UNET, OTSU = "QCANet", "QCANet without NDN", "3D U-Net", "Otsu and watershed"


class Otsu:
    """Baseline segmentation method: Otsu's threshold and a watershed."""

    n_samples = 0
    counts = False

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume; confidences are NaN."""
        instances = otsu_watershed(volume.array, spacing=volume.spacing)
        return Segmentation(instances.labels, measure(instances, spacing=volume.spacing))

    def measure(self, volume: Volume, labels: Labels) -> Segmentation:
        """Measure labels (Z, Y, X) that are given; confidences are NaN."""
        return Segmentation(labels, measure(Instances(labels), spacing=volume.spacing, image=volume.array))

    def fingerprint(self) -> list[Any]:
        """Return everything that determines the labels of a volume."""
        return [self.describe()]

    def describe(self) -> dict[str, Any]:
        """Return the settings, as written to ``run.json``."""
        return {"method": "Otsu's threshold, watershed from the peaks of the distance", "device": "cpu"}


@dataclass(frozen=True)
class MethodSet:
    """Methods to compare.

    Parameters
    ----------
    nsn, ndn
        Model references of QCANet's networks.
    unet
        Model reference of the 3D U-Net; None omits this baseline.
    given
        Label images made by other methods: a folder or a single image by method name.
    tracking_uri
        MLflow tracking URI for ``models:/`` references.
    """

    nsn: str = "bundled"
    ndn: str = "bundled"
    unet: str | None = None
    given: Mapping[str, Path] = field(default_factory=dict)
    tracking_uri: str | None = None

    def methods(self) -> dict[str, Method]:
        """Return methods by name; the first is compared with each of the others."""
        found: dict[str, Method] = {
            OURS: load_segmenter(nsn=self.nsn, ndn=self.ndn, tracking_uri=self.tracking_uri),
            WITHOUT: load_segmenter(nsn=self.nsn, ndn="none", tracking_uri=self.tracking_uri),
        }
        if self.unet is not None:
            found[UNET] = load_segmenter(nsn=self.unet, ndn="none", tracking_uri=self.tracking_uri)
        return {**found, OTSU: Otsu()}


def run_comparison(
    images: Sequence[Path],
    reference: Path,
    out: str | Path,
    contest: MethodSet,
    *,
    spacing: Sequence[float] | None = None,
    stage: Callable[[str, int], Callable[[object], None]] = lambda _name, _images: lambda _image: None,
) -> list[Row]:
    """Segment images with every method into subfolders of `out`, and score them.

    Unchanged segmentations of an earlier run are reused. Returns the rows of
    ``comparison.compare_methods``.

    Parameters
    ----------
    images
        Image files and folders.
    reference
        Folder of label images with the same names; for a single image, a single label image.
    out
        Output folder.
    contest
        Methods to compare.
    spacing
        Voxel size (z, y, x) in µm, for images that do not state it.
    stage
        Called with a method's name and the number of images; returns a callback for each finished image.

    Raises
    ------
    QCANetError
        If an image, a model or the reference cannot be used.
    """
    todo = frames_of(list_images(images))
    single = not reference.is_dir()
    if single and len(todo) > 1:
        raise InputError(f"expected a folder of references for {len(todo)} images, got the file {reference}")
    taken = sorted(set(contest.given) & {OURS, WITHOUT, UNET, OTSU})
    if taken:
        raise InputError(f"expected names other than the built-in ones, got {', '.join(taken)}: rename them")
    if not single:
        _check_names(todo, reference)
    folder = output_folder(out)
    predictions: dict[str, Path] = {}
    for name, method in contest.methods().items():
        target = folder / re.sub(r"\W+", "-", name.lower())
        segment_files(todo, target, method, spacing=spacing, progress=stage(name, len(todo))).raise_failures()
        predictions[name] = target / f"{image_stem(todo[0])}_labels.tif" if single else target
    return compare_methods({**predictions, **contest.given}, reference, spacing=spacing)


def _check_names(images: Sequence[Path | Frame], reference: Path) -> None:
    """Raise InputError, before any work, if a reference has no image."""
    known = set(map(image_stem, images))
    lacking = sorted({label_stem(one) for one in frames_of(list_images([reference]))} - known)
    if lacking:
        raise InputError(
            f"expected an image for every reference in {reference}, {len(lacking)} are missing, the first is "
            f"{lacking[0]}"
        )
