"""Descriptions of studies on MLflow's pages, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from qcanet_monai.registry.data import Data
from qcanet_monai.tuning.progress import TrialState
from qcanet_monai.tuning.study import Domain, Study

BEST = 5  # trials in the table
NOTE = "mlflow.note.content"  # tag that MLflow's pages show as a description


def study_note(
    name: str,
    study: Study,
    objective: str,
    trials: Sequence[TrialState],
    winner: TrialState,
    *,
    links: Mapping[str, str],
    data: Sequence[Data],
    facts: Mapping[str, str],
) -> str:
    """Describe a finished study: the best trials, the data and how to load the best.

    Parameters
    ----------
    name
        Name of the study.
    links
        Address of each trial's run within MLflow's pages.
    data
        Subsets of the dataset.
    facts
        Bundle, commit and versions.
    """
    full = [trial for trial in trials if trial.epoch == winner.epoch and trial.value is not None]
    best = sorted(full, key=lambda trial: trial.value or 0.0, reverse=True)[:BEST]
    counts = {s: sum(trial.status == s for trial in trials) for s in ("finished", "stopped", "failed")}
    seconds = statistics.median(trial.seconds / trial.epoch for trial in trials if trial.epoch)
    ended = ", ".join(f"{count} {status}" for status, count in counts.items())
    return "\n\n".join(
        [
            f"**Best: [{winner.title}]({links[winner.id]})**, {objective} **{winner.value:.4f}** after "
            f"{winner.epoch} epochs.",
            _table(
                ["trial", objective, *winner.settings],
                [
                    [f"[{trial.id}]({links[trial.id]})", f"{trial.value:.4f}"]
                    + [_text(trial.settings.get(key, "")) for key in winner.settings]
                    for trial in best
                ],
            ),
            _spread(best, objective),
            f"{len(trials)} trials ({ended}); an epoch takes {seconds:.2g} s (median).",
            "**Data**: " + "; ".join(_data(one) for one in data) + ".",
            f"**Load it**: `qcanet promote {facts['bundle']} --study {name}`, then "
            f'`qcanet_monai.load("models:/{facts["bundle"]}@champion")`.',
            f"**Made with** commit {facts['git_commit']}, "
            + ", ".join(
                f"{key.removeprefix('version.')} {value}"
                for key, value in facts.items()
                if key.startswith("version.")
            )
            + "; all packages in `requirements.txt`.",
            "**Searched**",
            _table(
                ["setting", "values", "best"],
                [
                    [key, domains_text(study.variants(key)), _text(winner.settings.get(key, ""))]
                    for key in study.space
                ],
            ),
        ]
    )


def experiment_note(bundle: str, description: str) -> str:
    """Describe an experiment: the studies of one bundle."""
    return (
        f"Studies of the bundle `{bundle}`: {description}\n\nA study is a run with a nested run per trial; "
        "its page states what won. `best_…` is the best validation so far, `validation_…` that of an epoch. "
        "The tag `searched` names the settings that a study searched. Artifacts of a study: `plots.html`, "
        "`study.yaml`, `trials.csv`, `requirements.txt`."
    )


def _spread(best: Sequence[TrialState], objective: str) -> str:
    if len(best) < 2:
        return "**How sure**: one trial has the full budget, so nothing is known of the spread."
    values = [trial.value or 0.0 for trial in best]
    return (
        f"**How sure**: the best {len(best)} trials with the full budget have {objective} {min(values):.4f} "
        f"to {max(values):.4f} (standard deviation {statistics.stdev(values):.4f}); smaller differences mean "
        "little."
    )


def _data(one: Data) -> str:
    counts = ", ".join(f"{value:,} {name}" for name, value in one.profile.items())
    return f"{one.name}, digest `{one.digest}` ({counts})"


def domains_text(domains: Sequence[Domain]) -> str:
    """Return the domains of a setting in words."""
    return "; ".join(
        (_values(domain) + (f" where {_condition(domain)}" if domain.when else "")) for domain in domains
    )


def _values(domain: Domain) -> str:
    if domain.choices is not None:
        return ", ".join(map(_text, domain.choices))
    return f"{_text(domain.low)} to {_text(domain.high)}{' (logarithmic)' if domain.log else ''}"


def _condition(domain: Domain) -> str:
    parts = []
    for key, value in domain.when.items():
        parts.append(f"{key} is {' or '.join(map(str, value)) if isinstance(value, list) else value}")
    return " and ".join(parts)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
