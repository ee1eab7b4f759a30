"""Datasets as MLflow knows them: name, digest, source and what they hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qcanet_monai.io import IMAGE_SUFFIXES, read_labels
from qcanet_monai.io.dataset import embryo_of, truth_path
from qcanet_monai.registry.provenance import fingerprint

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

DIGEST = 16  # characters; MLflow allows 36


@dataclass(frozen=True)
class Data:
    """One subset of a dataset.

    Parameters
    ----------
    name
        Name of the dataset's folder, and the subset.
    digest
        Start of the SHA-256 of all files.
    source
        Folder of the dataset.
    context
        Use of the subset: ``training``, ``validation`` or ``evaluation``.
    profile
        Numbers of volumes, embryos, voxels and, where instances are known, nuclei.
    """

    name: str
    digest: str
    source: str
    context: str
    profile: Mapping[str, int]

    @property
    def input(self) -> DatasetInput:
        """The subset as the input of a run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": self.source})
        dataset = Dataset(self.name, self.digest, "local", source, profile=json.dumps(dict(self.profile)))
        return DatasetInput(dataset, [InputTag("mlflow.data.context", self.context)])


def describe_data(root: str | Path, items: Sequence[Mapping[str, str]], *, subset: str, context: str) -> Data:
    """Read a subset's files and count what they hold.

    Parameters
    ----------
    root
        Folder of the dataset.
    items
        Images and labels, as ``io.dataset.split`` returns them.
    subset
        Name of the subset.
    context
        ``training`` or ``validation``.
    """
    root = Path(root)
    files = sorted({path for item in items for path in (item["image"], item["label"])})
    names = [Path(item["image"]).name for item in items]
    instances = [truth_path(root, "train", "QCANet", name) for name in names]  # masks have no single nuclei
    known = all(path.is_file() for path in instances)
    voxels, nuclei = _count(instances if known else [item["label"] for item in items])
    profile = {"volumes": len(items), "embryos": len({embryo_of(name) for name in names}), "voxels": voxels}
    if known:
        profile["nuclei"] = nuclei
    digest = fingerprint(files, _common(root, files))[:DIGEST]
    return Data(f"{root.resolve().name} {subset}", digest, str(root.resolve()), context, profile)


def describe_labels(reference: str | Path) -> Data:
    """Describe reference labels: a label image, or a folder of label images."""
    root = Path(reference).resolve()
    inside = sorted(root.iterdir()) if root.is_dir() else [root]
    files = [path for path in inside if path.name.lower().endswith(IMAGE_SUFFIXES)]
    voxels, nuclei = _count(files)
    digest = fingerprint(files, root if root.is_dir() else root.parent)[:DIGEST]
    profile = {"volumes": len(files), "voxels": voxels, "nuclei": nuclei}
    return Data(root.name, digest, str(root), "evaluation", profile)


def describe_images(images: Sequence[Path], context: str) -> Data:
    """Describe images by their folder, number and content."""
    root = images[0].resolve().parent
    parts = (part for image in images for part in (image, *image.rglob("*")))  # an OME-Zarr is a folder
    digest = fingerprint([part.resolve() for part in parts if part.is_file()], Path("/"))[:DIGEST]
    return Data(root.name, digest, str(root), context, {"volumes": len(images)})


def _count(paths: Sequence[str | Path]) -> tuple[int, int]:
    """Return the voxels and the labels of label images."""
    voxels = labels = 0
    for path in paths:
        array = read_labels(path, need_spacing=False, instances=False).array
        voxels += array.size
        labels += int(np.count_nonzero(np.unique(array)))
    return voxels, labels


def _common(root: Path, files: Sequence[str]) -> Path:
    """Return the dataset's folder, or "/" if a datalist names files elsewhere."""
    inside = all(Path(file).is_relative_to(root) for file in files)
    return root if inside else Path("/")
