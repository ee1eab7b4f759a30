"""Segmentation of a volume with a bundle: preprocess, predict, postprocess."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.bundle.networks import usable
from qcanet_monai.core.grey import grey_values
from qcanet_monai.core.instances.instances import Instances, Labels
from qcanet_monai.core.instances.uncertainty import Spread, confidence_radius_um, drop_labels, most_uncertain
from qcanet_monai.core.measure.evidence import evidence
from qcanet_monai.core.measure.nuclei import label_means
from qcanet_monai.core.metrics.detection import centroids_um
from qcanet_monai.core.outline import outline_fraction
from qcanet_monai.core.resample import Shape, Spacing, resample, resample_labels
from qcanet_monai.core.scale import Scale, voxel_edge
from qcanet_monai.errors import DataWarning, InputError, ModelError
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io import Volume, as_volume
from qcanet_monai.segmentation.doubts import doubts_of
from qcanet_monai.segmentation.result import Segmentation, measure
from qcanet_monai.segmentation.sizes import NO_SCALE, Looks, scale_from

Outputs = NDArray[np.float32]

_FILES = (Path("configs", "inference.yaml"), Path("models", "model.pt"))


class Segmenter:
    """Segment volumes with a bundle.

    Parameters
    ----------
    bundle
        Bundle whose configuration defines the networks and, as ``to_instances``, the postprocessing.
    n_samples
        Number of dropout predictions that measure each object's uncertainty; none if 0.
    drop_uncertain
        Fraction in [0, 1) of each image's objects to omit, most uncertain first; requires samples.
    overrides
        Values of configuration keys, set at the top level and in every network's section.

    Attributes
    ----------
    predictors : dict of str to Predictor
        Networks by name; a single network has an empty name.

    Raises
    ------
    InputError
        If `drop_uncertain` is set without samples, a number is out of range, or the outline is unknown.
    ModelError
        If the bundle, its weights or an override cannot be used, the bundle does not produce labels, or a
        network to be sampled has no dropout.
    """

    def __init__(
        self, bundle: Bundle, *, n_samples: int = 0, drop_uncertain: float = 0.0, **overrides: Any
    ) -> None:
        if n_samples < 0 or not 0 <= drop_uncertain < 1:
            raise InputError(
                f"expected n_samples of at least 0 and a fraction to drop in [0, 1), got {n_samples}, "
                f"{drop_uncertain}"
            )
        if drop_uncertain and not n_samples:
            raise InputError("expected dropout samples to rank objects, got none: give n_samples, e.g. 100")
        if not bundle.gives_labels:
            raise ModelError(
                f"expected a bundle that produces labels, got {bundle.reference or bundle.folder}, which "
                "predicts a probability only: give it as --nsn or --ndn"
            )
        self.bundle, self.n_samples, self.drop_uncertain = bundle, n_samples, drop_uncertain
        self.overrides = {key: value for key, value in overrides.items() if value is not None}
        parser = bundle.parser(**self.overrides)
        self.predictors = bundle.predictors(parser)
        with usable(bundle.folder / "configs/inference.yaml"):
            self.to_instances = parser.get_parsed_content("to_instances")
            on_grid, counts = (
                bool(parser.get_parsed_content(key)) if key in parser else False
                for key in ("instances_on_network_grid", "count_from_density")
            )
        self.on_grid, self.counts = on_grid, counts
        outline = getattr(self.to_instances, "keywords", {}).get("outline")
        if outline is not None:
            outline_fraction(outline)  # one error now, rather than one per image
        for predictor in self.predictors.values() if n_samples else ():
            predictor.check_dropout()

    def segment(
        self, image: ArrayLike | Volume | str | Path, *, spacing: Sequence[float] | None = None
    ) -> Segmentation:
        """Segment one image.

        Parameters
        ----------
        image
            Intensities (Z, Y, X), a volume, or an image file.
        spacing
            Voxel size (z, y, x) in µm; required for arrays, and for files that do not state it.

        Returns
        -------
        Segmentation
            ``labels`` (Z, Y, X) on the image's own grid, and ``nuclei``, a table with a row per label.

        Raises
        ------
        InputError
            If the image cannot be read or is not valid, or its voxel size is unknown.

        Warns
        -----
        DataWarning
            If the image gives reason to doubt the result; the attribute ``doubts`` has the same lines.

        Examples
        --------
        >>> import numpy as np
        >>> import qcanet_monai as qcanet
        >>> z, y, x = np.ogrid[:20, :48, :48]  # a nucleus of 12 µm
        >>> inside = ((z - 10) * 1.75) ** 2 + ((y - 24) * 0.8) ** 2 + ((x - 24) * 0.8) ** 2 < 6**2
        >>> image = np.where(inside, 900, 100)
        >>> qcanet.load("qcanet").segment(image, spacing=(1.75, 0.8, 0.8)).labels.dtype
        dtype('uint16')
        """
        begun = time.perf_counter()
        volume = as_volume(image, spacing=spacing)
        found = self(volume)
        doubts = (*volume.doubts, *found.doubts)
        for doubt in doubts:
            warnings.warn(f"{volume.source}: {doubt}", DataWarning, stacklevel=2)
        seconds = time.perf_counter() - begun
        return replace(found, volume=volume, method=self.describe(), seconds=seconds, doubts=doubts)

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment one volume; unlike `segment`, record no volume, settings or time."""
        image = volume.array
        volume = replace(volume, array=grey_values(image))
        scale, looks = self._scale(volume)
        inputs = self.preprocess(volume, scale)
        found = self.postprocess(self.predict(inputs, volume, looks), volume)
        table = measure(found, spacing=volume.spacing, image=image, uncertain=self.n_samples > 0)
        integral = found.integral if self.counts else None
        shown = evidence(volume.array, found.labels)
        doubts = doubts_of(table, shown, scale, voxels=volume.array.size)
        whole = Segmentation(
            found.labels, table, integral=integral, evidence=shown, scale=scale, doubts=doubts
        )
        if not self.n_samples:
            return whole
        spread, centres = Spread(), []
        for outputs in self.mc_dropout_samples(inputs, volume):
            sample = self.postprocess(outputs, volume)
            assert sample.foreground is not None
            spread.add(sample.foreground)
            centres.append(_centres(sample, volume.spacing))
        radius = confidence_radius_um(_centres(found, volume.spacing), centres)
        table["uncertainty_um"] = radius
        table["mask_spread"] = label_means(found.labels, spread.sd())
        dropped = most_uncertain(radius, self.drop_uncertain)
        table = {name: column[~dropped] for name, column in table.items()}
        table["label"] = np.arange(1, len(table["label"]) + 1)
        return replace(whole, labels=drop_labels(found.labels, dropped), table=table, spread=spread.sd())

    def instances(self, volume: Volume) -> Instances:
        """Find the objects of a volume, with the foreground probability."""
        volume = replace(volume, array=grey_values(volume.array))
        scale, looks = self._scale(volume)
        return self.postprocess(self.predict(self.preprocess(volume, scale), volume, looks), volume)

    def measure(self, volume: Volume, labels: Labels) -> Segmentation:
        """Measure labels (Z, Y, X) that are given, with the networks' confidence in them."""
        found = self.instances(volume)
        given = Instances(labels, foreground=found.foreground)
        table = measure(given, spacing=volume.spacing, image=volume.array, uncertain=self.n_samples > 0)
        integral = found.integral if self.counts else None
        return Segmentation(labels, table, integral=integral, evidence=evidence(volume.array, labels))

    def preprocess(self, volume: Volume, scale: Scale | None = None) -> list[Tensor]:
        """Convert a volume to network inputs (1, 1, Z, Y, X) that suit its nuclei."""
        scale, found = scale or self._scale(volume)[0], []
        first, edge = None, None
        for predictor in self.predictors.values():
            own = _edge(predictor, scale, volume.spacing)
            if first is not None and own == edge and predictor.preprocesses_as(first):
                found.append(found[0])
                continue
            found.append(predictor.preprocess(volume.array, spacing=volume.spacing, isotropic_spacing_um=own))
            if first is None:
                first, edge = predictor, own
        return found

    def predict(self, inputs: Sequence[Tensor], volume: Volume, looks: Looks | None = None) -> list[Outputs]:
        """Predict each network's outputs (C, Z, Y, X) on the grid of `postprocess`."""
        found = []
        for predictor, given in zip(self.predictors.values(), inputs, strict=True):
            seen = looks.outputs(predictor, given) if looks else None
            found.append(self._placed(predictor, predictor.predict(given) if seen is None else seen, volume))
        return found

    def mc_dropout_samples(self, inputs: Sequence[Tensor], volume: Volume) -> Iterator[list[Outputs]]:
        """Yield `n_samples` results of `predict` with dropout switched on."""
        samples = [
            predictor.mc_dropout_samples(given, self.n_samples)
            for predictor, given in zip(self.predictors.values(), inputs, strict=True)
        ]
        for outputs in zip(*samples, strict=True):
            yield [
                self._placed(predictor, one, volume)
                for predictor, one in zip(self.predictors.values(), outputs, strict=True)
            ]

    def postprocess(self, outputs: Sequence[Outputs], volume: Volume) -> Instances:
        """Convert the networks' outputs to instances on the volume's own grid."""
        shape: Shape = volume.array.shape
        if not self.on_grid:
            return self.to_instances(*outputs, image=volume.array, spacing=volume.spacing)
        z, y, x = (s * n / m for s, n, m in zip(volume.spacing, shape, outputs[0].shape[1:], strict=True))
        found: Instances = self.to_instances(*outputs, spacing=(z, y, x))
        assert found.foreground is not None
        labels = resample_labels(found.labels, shape)
        gone = np.bincount(labels.ravel(), minlength=int(found.labels.max(initial=0)) + 1)[1:] == 0
        labels = drop_labels(labels, gone)  # labels lost between slices
        return Instances(labels, foreground=resample(found.foreground, shape), integral=found.integral)

    def _placed(self, predictor: Predictor, outputs: Outputs, volume: Volume) -> Outputs:
        return outputs if self.on_grid else predictor.to_native(outputs, volume.array.shape)

    def _scale(self, volume: Volume) -> tuple[Scale, Looks | None]:
        """Estimate the nuclear diameter in a volume if the grid depends on it."""
        first = next(iter(self.predictors.values()))
        if not _adapts(first):
            return NO_SCALE, None
        looks = Looks(first, volume)
        return scale_from(looks), looks

    def fingerprint(self) -> list[Any]:
        """Return everything that determines the labels: settings and bundle files."""
        folders = {self.bundle.folder, *(self.bundle.part(name).folder for name in self.predictors)}
        files = [folder / part for folder in sorted(folders) for part in _FILES]
        states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return [self.describe(), self.overrides, states]

    def describe(self) -> dict[str, Any]:
        """Return settings and model versions, as written to ``run.json``."""
        models = {}
        for name, predictor in self.predictors.items():
            source = self.bundle.part(name)
            models[name or "model"] = {
                "reference": source.reference or str(source.folder),
                "bundle": str(source.folder),
                "version": source.version,
                "threshold": predictor.threshold,
                "smallest_voxels": predictor.min_size,
                "grid_um": predictor.isotropic_spacing_um,
                "diameter_voxels": predictor.max_diameter_voxels,
                "precision": predictor.precision,
            }
        device = str(next(iter(self.predictors.values())).device)
        bundle = self.bundle.reference or str(self.bundle.folder)
        about = {
            "bundle": bundle,
            "device": device,
            "postprocessing": getattr(self.to_instances, "keywords", {}),
        }
        if self.n_samples:
            about |= {"n_samples": self.n_samples, "drop_uncertain": self.drop_uncertain}
        return {**about, "overrides": self.overrides, "models": models}


def _adapts(predictor: Predictor) -> bool:
    return predictor.isotropic_spacing_um is None and predictor.max_diameter_voxels is not None


def _edge(predictor: Predictor, scale: Scale, spacing: Spacing) -> float | None:
    """Return the voxel edge in µm that suits the nuclei; None: finest spacing."""
    if not _adapts(predictor):
        return None
    assert predictor.max_diameter_voxels is not None
    return voxel_edge(scale, finest=min(spacing), across=predictor.max_diameter_voxels)


def _centres(found: Instances, spacing: Spacing) -> NDArray[np.float64]:
    if found.centres_um is not None:
        return found.centres_um
    return centroids_um(found.labels, spacing=spacing)
