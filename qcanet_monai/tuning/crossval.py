"""Cross-validation of a bundle, run as a study over its folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError
from qcanet_monai.io import output_folder, replacing, write_csv
from qcanet_monai.io.dataset import split
from qcanet_monai.renamed import renamed
from qcanet_monai.tuning.engine import Watch
from qcanet_monai.tuning.folder import StudyFolder, write_yaml
from qcanet_monai.tuning.study import Resources, Study
from qcanet_monai.tuning.tune import Outcome, run_study


@dataclass(frozen=True)
class CrossValidation:
    """Result of a cross-validation: its study and the objective of each fold."""

    outcome: Outcome
    values: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean of the objective over folds."""
        return float(np.mean(list(self.values.values())))

    @property
    def sd(self) -> float:
        """Standard deviation of the objective over folds (n - 1)."""
        return float(np.std(list(self.values.values()), ddof=1))


def cross_validate(
    bundle: str,
    *,
    data: str | Path,
    storage: str | Path,
    folds: int = 11,
    by: str = "embryo",
    epochs: int | None = None,
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    resources: Resources | None = None,
    tracking_uri: str | None = None,
    address: str | None = None,
    cache: str | Path | None = None,
    watch: Watch = lambda _progress: None,
    stage: Callable[[str], None] = lambda _text: None,
) -> CrossValidation:
    """Train a bundle once per fold and keep the bundle of the best fold.

    As in Tokuoka et al. (2020, Methods), each fold keeps its epoch with the best validation, and the best
    fold wins. Folds are trials of a study: they run in parallel as `resources` allow, are child runs in
    MLflow and continue after an interruption. The study's folder receives ``folds.csv`` and ``folds.md``.

    Parameters
    ----------
    bundle
        Name of a shipped bundle, or a bundle's folder.
    data
        Dataset in BBBC050's layout.
    storage
        Folder of studies. The study is named after the bundle, the overlays, `by` and `folds`.
    folds, by
        See ``io.dataset.split``.
    epochs
        Epochs per fold. If None, ``epochs`` of `settings`, `overlays` or the bundle, in this order.
    overlays
        Names of overlay configurations with plain settings, such as "paper"; the last one takes precedence.
    settings
        Values of the bundle's keys, which take precedence over `overlays`.
    resources
        Resources of one training.
    tracking_uri, address, cache, watch, stage
        See ``run_study``.

    Raises
    ------
    QCANetError
        As ``run_study``, or if the training of a fold failed.
    """
    root = Bundle.find(bundle)
    training = root.training
    target = training["target"]
    chosen = {**_laid_over(root.folder, overlays), **renamed(settings or {}, "settings")}
    epochs = epochs or chosen.get("epochs", training["epochs"])
    chosen.pop("epochs", None)
    for fold in range(folds):  # check before the study starts
        split(data, target, "validation", folds=folds, fold=fold, by=by)
    study = Study.model_validate(
        {
            "bundle": bundle,
            "space": {"fold": {"choices": list(range(folds))}},
            "starting_points": [{"fold": fold} for fold in range(folds)],
            "settings": {**chosen, "folds": folds, "split_by": by},
            "sampler": {"name": "random"},
            "scheduler": {"name": "none"},
            "trials": folds,
            "epochs": epochs,
            "resources": resources or Resources(),
        }
    )
    name = "-".join([Path(bundle).name, *overlays, by, str(folds)])
    folder = StudyFolder(storage, name)
    file = output_folder(folder.root.parent) / f"{name}.yaml"
    write_yaml(file, study.model_dump(mode="json", exclude_defaults=True), f"# qcanet crossval {bundle}\n")
    outcome = run_study(
        file,
        storage=storage,
        data=data,
        tracking_uri=tracking_uri,
        address=address,
        cache=cache,
        resume=folder.begun,
        watch=watch,
        stage=stage,
    )
    values = {
        int(trial.settings["fold"]): float(trial.value)
        for trial in outcome.trials
        if trial.status == "finished" and trial.value is not None
    }
    missing = sorted(set(range(folds)) - set(values))
    if missing:
        reasons = {trial.failure for trial in outcome.trials if trial.failure}
        raise StudyError(
            f"expected {folds} trained folds, got {len(values)} (missing: {', '.join(map(str, missing))}): "
            f"{'; '.join(sorted(reasons)) or 'their trials did not end'}; see {outcome.folder}"
        )
    found = CrossValidation(outcome, dict(sorted(values.items())))
    _write(found)
    return found


def _laid_over(bundle: Path, overlays: Sequence[str]) -> dict[str, Any]:
    """Merge the settings of overlay configurations."""
    found: dict[str, Any] = {}
    for name in overlays:
        path = bundle / "configs" / f"{name}.yaml"
        if not path.is_file():
            raise StudyError(f"expected an overlay {name} in {bundle}, found no {path}")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        nested = [key for key, value in content.items() if isinstance(value, dict) or key.startswith("+")]
        if nested:
            raise StudyError(f"expected plain settings in {path}, got {nested[0]}: use monai.bundle run")
        found |= content
    return found


def _write(found: CrossValidation) -> None:
    """Write ``folds.csv`` and ``folds.md``."""
    objective = found.outcome.objective
    rows = [{"fold": fold, objective: value} for fold, value in found.values.items()]
    write_csv(found.outcome.folder / "folds.csv", rows)
    lines = [f"| fold | {objective} |", "| ---: | ---: |"]
    lines += [f"| {fold} | {value:.3f} |" for fold, value in found.values.items()]
    lines += [f"| mean (SD) | {found.mean:.3f} ({found.sd:.3f}) |"]
    with replacing(found.outcome.folder / "folds.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
