"""Results of a study: best bundle, overlay configuration, table of trials."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray.tune import Checkpoint

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.errors import StudyError
from qcanet_monai.evaluation.calibrate import Calibration, calibration
from qcanet_monai.io import output_folder, replacing, write_csv, write_json
from qcanet_monai.io.dataset import split
from qcanet_monai.training.export import write_knobs
from qcanet_monai.tuning.folder import StudyFolder, write_yaml
from qcanet_monai.tuning.progress import TrialState, best_of, pareto_front
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan, finish_trial

BEST = "best"  # folder of the winner's bundle


def choose(trials: Sequence[TrialState]) -> TrialState:
    """Return the best trial with the most epochs; raise StudyError if all failed."""
    best = best_of(trials)
    if best is None:
        reasons = sorted({trial.failure for trial in trials if trial.failure})
        raise StudyError(f"none of {len(trials)} trials succeeded: {reasons[0] if reasons else 'none ran'}")
    return best


def finish(
    study: Study, plan: Plan, winner: TrialState, checkpoint: Checkpoint, folder: StudyFolder, gpus: float
) -> list[dict[str, Any]]:
    """Copy the winner's bundle to ``best`` and train it to its full budget.

    `checkpoint` holds the winner's bundle and training state; the training takes `gpus`. A training begun in
    ``best`` continues. Returns the values reported after each additional epoch.
    """
    target = folder.root / BEST
    owner = target / "trial.txt"  # a study that continues may have another winner
    if target.is_dir() and not (owner.is_file() and owner.read_text(encoding="utf-8") == winner.id):
        shutil.rmtree(target)
    if not (target / "last.pt").is_file():
        with checkpoint.as_directory() as source:
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("last.pt"))
            owner.write_text(winner.id, encoding="utf-8")
            shutil.copyfile(Path(source) / "last.pt", target / "last.pt")
    if winner.status == "finished":
        return []
    if folder.remote is not None:
        folder.remote.push(folder.root)
    remote = ray.remote(num_cpus=study.resources.cpu, num_gpus=gpus)(finish_trial)
    results: list[dict[str, Any]] = ray.get(remote.remote(dict(winner.settings), plan, folder.uri(BEST)))
    if folder.remote is not None:
        folder.remote.pull(folder.root)
    return results


def calibrated(plan: Plan, target: Path) -> Calibration:
    """Choose the thresholds of a trained bundle on the study's validation images."""
    known = {**plan.bundle.training, **plan.settings}
    items = split(
        known["dataset_dir"],
        known["target"],
        "validation",
        folds=known["folds"],
        fold=known["fold"],
        by=known["split_by"],
        datalist=known["datalist"],
        at_most=known["validation_volumes"],
    )
    found = calibration(Bundle(target), items)
    write_knobs(target, found.settings)
    return found


def trained(bundle: Path) -> tuple[int, float]:
    """Return a trained bundle's number of epochs and best validation metric."""
    state = torch.load(bundle / "last.pt", map_location="cpu", weights_only=True)
    return int(state["epoch"]), float(state["best"])


def write_overlay(folder: StudyFolder, plan: Plan, winner: TrialState, bundle: str) -> Path:
    """Write ``best.yaml``: the winner's settings as an overlay of ``train.yaml``."""
    path = folder.root / "best.yaml"
    root = f"bundles/{bundle}" if Path(bundle).name == bundle else bundle
    configs = f"['{root}/configs/train.yaml','{path.name}']"
    header = (
        f"# python -m monai.bundle run --bundle_root {root} "
        f'--config_file "{configs}" --dataset_dir DIR --output_dir OUT\n'
        f"# Best of study {folder.name}: {plan.objective} {winner.value:.4f} after "
        f"{plan.epochs} epochs.\n"
    )
    own = {k: v for k, v in plan.settings.items() if k not in ("dataset_dir", "cache_dir")}
    write_yaml(path, {**own, **winner.settings, "epochs": plan.epochs}, header)
    return path


def write_tables(
    folder: StudyFolder,
    plan: Plan,
    trials: Sequence[TrialState],
    winner: TrialState,
    chosen: Calibration | None = None,
) -> Path:
    """Write ``trials.csv`` and ``summary.json``; return the path of the former."""
    names = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    front = {trial.id for trial in pareto_front(trials)}
    rows = [
        {
            "trial": trial.id,
            "status": trial.status,
            "epochs": trial.epoch,
            plan.objective: trial.value,
            "parameters": trial.parameters or "",
            "multiply_adds": trial.multiply_adds or "",
            "pareto": int(trial.id in front),
            "seconds": trial.seconds,
            "failure": trial.failure,
            **{name: trial.settings.get(name) for name in names},
        }
        for trial in trials
    ]
    path = folder.root / "trials.csv"
    write_csv(path, rows)
    counts = {status: sum(t.status == status for t in trials) for status in ("finished", "stopped", "failed")}
    write_json(
        folder.root / "summary.json",
        {
            "study": folder.name,
            "objective": plan.objective,
            "best_trial": winner.id,
            "best": winner.value,
            "settings": dict(winner.settings),
            "parameters": winner.parameters,
            "trials": counts,
            "epochs": sum(trial.epoch for trial in trials),
            **({} if chosen is None else {"calibration": _summary(chosen)}),
        },
    )
    return path


def _summary(chosen: Calibration) -> dict[str, Any]:
    """Return a calibration as JSON content."""
    scores = {"before": chosen.before._asdict(), "after": chosen.after._asdict()}
    return {"settings": chosen.settings, "volumes": chosen.volumes, **scores}


def describe_bundle(
    bundle: Path,
    plan: Plan,
    winner: TrialState,
    study: str,
    facts: Mapping[str, str],
    chosen: Calibration | None = None,
) -> None:
    """Write the winner's model card to ``docs/README.md`` in its bundle."""
    settings = "\n".join(f"| {key} | {value} |" for key, value in winner.settings.items())
    if chosen is not None:
        settings += "".join(f"\n| {key} (calibrated) | {value} |" for key, value in chosen.settings.items())
    origin = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    text = (
        f"# {study}\n\nBest of a search: {plan.objective} {winner.value:.4f} on the study's validation data "
        f"after {plan.epochs} epochs; {winner.parameters:,} parameters.\n\n"
        f"| setting | value |\n|---|---|\n{settings}\n\n{origin}\n"
    )
    output_folder(bundle / "docs")
    with replacing(bundle / "docs" / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
