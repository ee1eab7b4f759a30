"""Plots of a study on one HTML page, which works offline and in a frame."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.importance import PedAnovaImportanceEvaluator
from plotly.colors import sample_colorscale

from qcanet_monai.io import replacing
from qcanet_monai.tuning.folder import StudyFolder
from qcanet_monai.tuning.ledger import Entry, Ledger
from qcanet_monai.tuning.search import Proposer, directions
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font-family: sans-serif; margin: 1em auto; padding: 0 1em; max-width: 70em; }}
.plot {{ width: 100%; overflow: hidden; }}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def write_plots(folder: StudyFolder, plan: Plan, study: Study) -> Path:
    """Write ``plots.html``, which embeds plotly.js once."""
    ended = [e for e in Ledger(folder.root / "ledger.jsonl").entries.values() if e.status == "over"]
    proposer = Proposer(study, plan.objective)
    recorded = optuna.create_study(directions=directions(study))
    recorded.add_trials([proposer.shown(entry) for entry in ended])
    sections = []
    script: bool | str = True
    for title, draw in [*_own(ended, plan.objective), *_optunas(recorded, plan.objective, study)]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                figure = draw()
                figure.update_layout(autosize=True, width=None, margin={"l": 60, "r": 20, "t": 40})
                content = figure.to_html(
                    full_html=False,
                    include_plotlyjs=script,
                    config={"responsive": True},
                    default_width="100%",
                )
            script = False
        except (ValueError, RuntimeError, ZeroDivisionError) as error:  # too few or too similar trials
            content = f"<p>Cannot be drawn: {html.escape(str(error))}</p>"
        sections.append(f'<h2>{title}</h2>\n<div class="plot">{content}</div>')
    path = folder.root / "plots.html"
    page = _PAGE.format(title=f"Study {html.escape(folder.name)}", body="\n".join(sections))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


Section = tuple[str, Callable[[], go.Figure]]


def _own(ended: Sequence[Entry], objective: str) -> Iterator[Section]:
    sound = [entry for entry in ended if not entry.failure and entry.results]
    yield "History", lambda: _history(sound, objective)
    yield "Learning curves", lambda: _curves(sound, objective)
    yield "Workers", lambda: _workers(ended)


def _optunas(recorded: optuna.Study, objective: str, study: Study) -> Iterator[Section]:
    target: dict[str, Any] = {"target": lambda trial: trial.values[0], "target_name": objective}
    yield "Importance", lambda: visualization.plot_param_importances(recorded, **target)
    yield (
        "Importance for the best trials (PED-ANOVA)",
        lambda: visualization.plot_param_importances(
            recorded, evaluator=PedAnovaImportanceEvaluator(), **target
        ),
    )
    yield "Parallel coordinates", lambda: visualization.plot_parallel_coordinate(recorded, **target)
    yield "Slices", lambda: visualization.plot_slice(recorded, **target)
    yield "Rank", lambda: visualization.plot_rank(recorded, **target)
    if study.cost_objective:
        names = [objective, "multiply_adds"]
        yield "Pareto front", lambda: visualization.plot_pareto_front(recorded, target_names=names)


def _history(sound: Sequence[Entry], objective: str) -> go.Figure:
    """Draw the objective over the trials, coloured by the epochs that they had."""
    figure = go.Figure()
    if not sound:
        raise ValueError("no trial has a value")
    budgets = sorted({entry.results[-1]["epoch"] for entry in sound})
    for epochs, colour in zip(budgets, _colours(len(budgets)), strict=True):
        own = [entry for entry in sound if entry.results[-1]["epoch"] == epochs]
        x, y = [int(entry.name) for entry in own], [entry.results[-1][objective] for entry in own]
        name = f"{epochs} epochs" if epochs != 1 else "1 epoch"
        figure.add_scatter(x=x, y=y, mode="markers", name=name, marker={"color": colour})
        if epochs == budgets[-1]:
            best = list(accumulate(y, max))
            line = {"shape": "hv", "color": colour}
            figure.add_scatter(x=x, y=best, mode="lines", name=f"best after {name}", line=line)
    return figure.update_layout(xaxis_title="trial", yaxis_title=objective)


def _curves(sound: Sequence[Entry], objective: str) -> go.Figure:
    """Draw the objective over the epochs of every trial."""
    figure = go.Figure()
    ordered = sorted(sound, key=lambda entry: entry.results[-1][objective])
    for entry, colour in zip(ordered, _colours(len(ordered)), strict=True):
        x = [result["epoch"] for result in entry.results]
        y = [result[objective] for result in entry.results]
        line = {"color": colour, "width": 1.5}
        figure.add_scatter(x=x, y=y, mode="lines+markers", name=entry.name, line=line)
    return figure.update_layout(xaxis_title="epoch", yaxis_title=objective)


def _workers(ended: Sequence[Entry]) -> go.Figure:
    """Draw which process trained which trial, and when."""
    figure = go.Figure()
    colours = {"finished": "#2a788e", "failed": "#c44e52"}
    for entry in ended:
        last = entry.results[-1] if entry.results else {}
        begun, over = entry.begun, entry.over
        figure.add_bar(
            base=[datetime.fromtimestamp(begun, UTC)],
            x=[1000 * (over - begun)],  # milliseconds, on an axis of dates
            y=[f"{last.get('host', 'unknown')} {last.get('pid', '')}"],
            orientation="h",
            name=entry.name,
            text=[entry.name],
            marker_color=colours["failed" if entry.failure else "finished"],
            showlegend=False,
        )
    return figure.update_layout(barmode="overlay", xaxis={"type": "date"}, yaxis={"type": "category"})


def _colours(n: int) -> list[str]:
    """Return `n` colours from dark to bright."""
    places = [0.9 * i / max(1, n - 1) for i in range(n)]
    return list(sample_colorscale("Viridis", places))
