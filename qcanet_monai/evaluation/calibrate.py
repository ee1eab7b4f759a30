"""Choice of a trained bundle's thresholds and grid, without training it again."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.core.metrics.detection import panoptic_quality
from qcanet_monai.core.metrics.overlap import overlap_table
from qcanet_monai.core.metrics.scores import seg
from qcanet_monai.errors import InputError, ModelError, OutputError
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.io import Volume, read_labels, read_volume
from qcanet_monai.io.dataset import evenly, pairs
from qcanet_monai.segmentation.segmenter import Segmenter
from qcanet_monai.training.export import write_knobs

CANDIDATES: dict[str, tuple[float, ...]] = {
    "marker_threshold": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "marker_min_size": (1, 3, 6, 10, 16, 25),
    "min_peak": (0.01, 0.02, 0.05, 0.1, 0.2, 0.4),
    "min_distance_um": (1.5, 2.0, 3.0, 4.0, 6.0),
    "threshold": (0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8),
    "min_area": (10, 20, 30, 50, 80),
    "min_size": (1, 10, 30, 100, 300),
    "min_relative_intensity": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25),
}
"""Values to try of the postprocessing's settings, in the order of the search."""
DIAMETERS = (12, 15, 18, 22, 28)  # max_diameter_voxels to try, which sets the networks' grid
ROUNDS = 2  # over all settings; a third rarely changes one
VOLUMES = 16
GRID = "max_diameter_voxels"

Progress = Callable[[str, int, int], None]


class Score(NamedTuple):
    """Means over the volumes: panoptic quality, which is maximised, and SEG."""

    pq: float
    seg: float


@dataclass(frozen=True)
class Calibration:
    """Chosen settings by key of ``inference.yaml``, and scores before and after."""

    settings: dict[str, Any]
    before: Score
    after: Score
    volumes: int


class _Seen(NamedTuple):
    """Volume, its true labels (Z, Y, X) and the networks' outputs (C, Z, Y, X)."""

    volume: Volume
    truth: NDArray[np.integer]
    outputs: list[NDArray[np.float16]]


@dataclass(frozen=True)
class _Outputs:
    """Networks' outputs on one grid, and the scores of settings that were tried."""

    volumes: list[_Seen]
    scores: dict[tuple[Any, ...], Score] = field(default_factory=dict)


def calibrate(
    reference: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    volumes: int = VOLUMES,
    tracking_uri: str | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> Calibration:
    """Choose a bundle's thresholds on labelled images; write the bundle with them.

    Parameters
    ----------
    reference
        Bundle that outputs labels: a shipped name, a folder or ``models:/NAME@ALIAS``.
    data
        Dataset in BBBC050's layout with instances; best of embryos that the bundle was not trained on.
    out
        New folder for the calibrated bundle.
    volumes
        Number of images to use, evenly spaced.
    tracking_uri
        MLflow store of ``models:/`` references.
    progress
        Called with the name of the step, the number of images or settings done, and their total.

    Raises
    ------
    ModelError
        If the bundle cannot be used or outputs no labels.
    InputError
        If the dataset cannot be used.
    OutputError
        If `out` exists.

    Examples
    --------
    >>> import qcanet_monai as qcanet
    >>> _ = qcanet.simulate("labelled", embryos=2, timepoints=1, spacing=(4.0, 2.0, 2.0), workers=1)
    >>> found = qcanet.calibrate("qcanet", data="labelled", out="calibrated")
    >>> found.after.pq >= found.before.pq
    True
    """
    out = Path(out)
    if out.exists():
        raise OutputError(
            f"expected a new folder for the calibrated bundle, {out} exists: give another --out"
        )
    bundle = Bundle.find(reference, tracking_uri=tracking_uri)
    if volumes < 1:
        raise InputError(f"expected at least 1 volume, got {volumes}")
    items = evenly(pairs(data, "train", "QCANet"), volumes)
    found = calibration(bundle, items, progress=progress)
    try:
        bundle.copy_to(out)
        write_knobs(out, found.settings)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return found


def calibration(
    bundle: Bundle,
    items: Sequence[dict[str, str]],
    *,
    progress: Progress = lambda _what, _done, _total: None,
) -> Calibration:
    """Choose thresholds and grid of a bundle by the panoptic quality of its labels.

    One setting after the other takes its best value, in two rounds. SEG alone would not do: SEG does not
    count false objects, so it never drops any. Nuclei that are too large for a network are downsampled to
    the grid that ``max_diameter_voxels`` gives; other grids are tried with the chosen thresholds.

    Parameters
    ----------
    bundle
        Bundle that outputs labels.
    items
        Images and instance labels, as ``io.dataset.pairs`` returns them.
    progress
        Called with the name of the step, the number of images or settings done, and their total.

    Raises
    ------
    ModelError
        If the bundle outputs no labels.
    InputError
        If no image contains an object.
    """
    return _Search(bundle, items, progress).run()


class _Search:
    def __init__(self, bundle: Bundle, items: Sequence[dict[str, str]], progress: Progress) -> None:
        self.segmenter, self.items, self.progress = Segmenter(bundle), items, progress
        self.keys = _references(bundle)
        # an object of a configuration is a partial function, whose keywords are the settings
        self.function = getattr(self.segmenter.to_instances, "func", self.segmenter.to_instances)
        self.chosen = dict(getattr(self.segmenter.to_instances, "keywords", {}))
        self.tried: list[tuple[Score, dict[str, Any], float | None]] = []
        if not self.keys:
            raise ModelError(
                f"expected settings of to_instances to choose ({', '.join(CANDIDATES)}), "
                f"{bundle.folder} has none"
            )

    def run(self) -> Calibration:
        """Choose the settings, then the grid; keep the bundle's own if they are best."""
        seen = self.seen()
        if not any(one.truth.any() for one in seen.volumes):
            raise InputError("expected images with labelled objects, found none: give others")
        before = self.score(seen, {})
        own = next(iter(self.segmenter.predictors.values())).max_diameter_voxels
        self.tried.append((before, dict(self.chosen), own))
        usual = self.usual()
        if self.score(seen, usual) > before:  # a better start
            self.chosen |= usual
        self.settle(seen, own)
        best, self.chosen, _ = max(self.tried, key=lambda one: one[0])
        for other in self.grids():
            self.place(other)
            seen = self.seen(seen)
            if self.score(seen, {}) > best:
                self.settle(seen, other)
        best, chosen, across = max(self.tried, key=lambda one: one[0])
        settings = {key: chosen[name] for name, key in self.keys.items()}
        if across != own:
            settings |= {f"{at}{GRID}": across for at in self.sections()}
        return Calibration(settings, before, best, len(self.items))

    def settle(self, seen: _Outputs, across: float | None) -> None:
        """Choose thresholds until they suit the grid, which they have a part in choosing."""
        for _ in range(ROUNDS):
            before = dict(self.chosen)
            self.thresholds(seen, self.score(seen, {}))
            self.place(across)
            seen = self.seen(seen)
            self.tried.append((self.score(seen, {}), dict(self.chosen), across))
            if self.chosen == before:
                break

    def place(self, across: float | None) -> None:
        """Give the networks their thresholds and largest diameter, which set the grid."""
        for at, predictor in self.sections().items():
            predictor.max_diameter_voxels = across
            for name, key in self.keys.items():
                if key in (f"{at}threshold", f"{at}min_size"):
                    setattr(predictor, key.rpartition("#")[2], self.chosen[name])

    def sections(self) -> dict[str, Predictor]:
        """Return the networks by the prefix of their keys."""
        return {f"networks#{n}#" if n else "": one for n, one in self.segmenter.predictors.items()}

    def thresholds(self, seen: _Outputs, best: Score) -> None:
        """Take the best value of one setting after the other."""
        for number, name in enumerate(self.keys):
            self.progress("thresholds", number, len(self.keys))
            for value in CANDIDATES[name]:
                if value != self.chosen[name] and (score := self.score(seen, {name: value})) > best:
                    best, self.chosen[name] = score, value

    def usual(self) -> dict[str, Any]:
        """Return the defaults of the postprocessing's settings."""
        given = inspect.signature(self.function).parameters
        defaults = {name: given[name].default for name in self.keys}
        return {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty}

    def score(self, seen: _Outputs, changes: dict[str, Any]) -> Score:
        """Return the scores with some settings changed."""
        settings = {**self.chosen, **changes}
        key = tuple(settings.items())
        if key not in seen.scores:
            seen.scores[key] = self._score(seen, settings)
        return seen.scores[key]

    def _score(self, seen: _Outputs, settings: dict[str, Any]) -> Score:
        self.segmenter.to_instances = partial(self.function, **settings)
        tables = []
        for one in seen.volumes:
            outputs = [array.astype(np.float32) for array in one.outputs]
            tables.append(overlap_table(one.truth, self.segmenter.postprocess(outputs, one.volume).labels))
        return Score(_mean(panoptic_quality(t).pq for t in tables), _mean(seg(t) for t in tables))

    def seen(self, before: _Outputs | None = None) -> _Outputs:
        """Run the networks on all images; return `before` if the outputs are the same."""
        found = []
        for number, item in enumerate(self.items):
            self.progress("networks", number, len(self.items))
            volume, truth = read_volume(item["image"]), read_labels(item["label"]).array
            outputs = self.segmenter.predict(self.segmenter.preprocess(volume), volume)
            found.append(_Seen(volume, truth, [one.astype(np.float16) for one in outputs]))
        same = before is not None and all(
            np.array_equal(a, b)
            for one, other in zip(before.volumes, found, strict=True)
            for a, b in zip(one.outputs, other.outputs, strict=True)
        )
        return before if before is not None and same else _Outputs(found)

    def grids(self) -> list[int]:
        """List other diameters that set the grid; none if the grid is fixed."""
        first = next(iter(self.segmenter.predictors.values()))
        if first.isotropic_spacing_um is not None or first.max_diameter_voxels is None:
            return []
        return [across for across in DIAMETERS if across != first.max_diameter_voxels]


def _references(bundle: Bundle) -> dict[str, str]:
    """Map settings of ``to_instances`` to the keys that they refer to."""
    given = bundle.inference.get("to_instances", {})
    return {
        name: given[name][1:]
        for name in CANDIDATES
        if isinstance(given.get(name), str) and given[name].startswith("@")
    }


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
