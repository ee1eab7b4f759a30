"""Optuna's plots of a study on one HTML page."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna import visualization

from qcanet_monai.io import replacing
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.ledger import Ledger
from qcanet_monai.tuning.search import Proposer, directions
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; margin: 2em auto; max-width: 70em; }}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def write_plots(folder: StudyFolder, plan: Plan, study: Study) -> Path:
    """Write ``plots.html``, which embeds plotly.js once and works offline."""
    proposer = Proposer(study, plan.objective)
    recorded = optuna.create_study(directions=directions(study))
    for entry in Ledger(folder.root / "ledger.jsonl").entries.values():
        if entry.status == "over":
            recorded.add_trial(proposer.shown(entry))
    sections = []
    script: bool | str = True
    for title, draw in _figures(recorded, plan.objective, study):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = draw().to_html(full_html=False, include_plotlyjs=script)
            script = False
        except (ValueError, RuntimeError, ZeroDivisionError) as error:  # too few or too similar trials
            content = f"<p>Cannot be drawn: {html.escape(str(error))}</p>"
        sections.append(f"<h2>{title}</h2>\n{content}")
    path = folder.root / "plots.html"
    page = _PAGE.format(title=f"Study {html.escape(folder.name)}", body="\n".join(sections))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _figures(
    recorded: optuna.Study, objective: str, study: Study
) -> Iterator[tuple[str, Callable[[], go.Figure]]]:
    target = {"target": lambda trial: trial.values[0], "target_name": objective}
    yield "History", lambda: visualization.plot_optimization_history(recorded, **target)
    yield "Importance", lambda: visualization.plot_param_importances(recorded, **target)
    yield "Parallel coordinates", lambda: visualization.plot_parallel_coordinate(recorded, **target)
    yield "Slices", lambda: visualization.plot_slice(recorded, **target)
    if study.cost_objective:
        names = [objective, "multiply_adds"]
        yield "Pareto front", lambda: visualization.plot_pareto_front(recorded, target_names=names)
