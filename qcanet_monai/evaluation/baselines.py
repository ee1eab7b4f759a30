"""QCANet and its rivals on the same images, held against the same reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    """Otsu's threshold and a watershed, in place of a `Segmenter`."""

    n_samples = 0
    counts = False

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume; nuclei have no confidence."""
        instances = otsu_watershed(volume.array, spacing=volume.spacing)
        return Segmentation(instances.labels, measure(instances, spacing=volume.spacing))

    def fingerprint(self) -> list[Any]:
        """Whatever decides on the labels of a volume."""
        return [self.describe()]

    def describe(self) -> dict[str, Any]:
        """Settings, as they go into ``run.json``."""
        return {"method": "Otsu's threshold, watershed from the peaks of the distance", "device": "cpu"}


@dataclass(frozen=True)
class MethodSet:
    """Who takes part.

    Parameters
    ----------
    nsn, ndn
        Model references of QCANet's networks.
    unet
        Model reference of the 3D U-Net; without it that rival stays away.
    given
        Label images made elsewhere, a folder or a single image by the method's name.
    tracking_uri
        MLflow's store, where a reference names a registered version.
    """

    nsn: str = "bundled"
    ndn: str = "bundled"
    unet: str | None = None
    given: Mapping[str, Path] = field(default_factory=dict)
    tracking_uri: str | None = None

    def methods(self) -> dict[str, Method]:
        """What segments, by name; the first is what the others are held against."""
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
    """Segment images by every method into folders of their own below `out`, and score them.

    What an earlier run has segmented stays as it is.

    Parameters
    ----------
    images
        Files and folders.
    reference
        A folder of label images with the same names, or for a single image a single one.
    out
        Folder for the results.
    contest
        Who takes part.
    spacing
        Voxel size (z, y, x) in µm, for images that do not state it.
    stage
        Called with a method's name and the number of images; what it returns, with each.

    Returns
    -------
    list of dict
        See ``comparison.compare_methods``.

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
        raise InputError(f"expected other names than those of our own methods, got {', '.join(taken)}")
    if not single:
        _check_names(todo, reference)
    folder = output_folder(out)
    predictions: dict[str, Path] = {}
    for name, method in contest.methods().items():
        target = folder / re.sub(r"\W+", "-", name.lower())
        segment_files(
            todo,
            target,
            method,
            spacing=spacing,
            progress=stage(name, len(todo)),
        ).raise_failures()
        predictions[name] = target / f"{image_stem(todo[0])}_labels.tif" if single else target
    return compare_methods({**predictions, **contest.given}, reference, spacing=spacing)


def _check_names(images: Sequence[Path | Frame], reference: Path) -> None:
    """Refuse, before any work, references of other images."""
    known = set(map(image_stem, images))
    lacking = sorted({label_stem(one) for one in frames_of(list_images([reference]))} - known)
    if lacking:
        raise InputError(
            f"expected an image for every reference in {reference}, {len(lacking)} are missing, the first is "
            f"{lacking[0]}"
        )
