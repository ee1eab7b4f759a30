"""Comparison of methods on one reference: scores, means per stage, differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qcanet_monai.core.measure.stages import STAGES, stage_of
from qcanet_monai.core.metrics.statistics import estimate
from qcanet_monai.errors import InputError
from qcanet_monai.evaluation.evaluate import evaluate_labels
from qcanet_monai.io import output_folder, replacing, write_csv, write_json
from qcanet_monai.io.names import group_series, label_stem
from qcanet_monai.io.tables import Row

METRICS = {"iou": "IoU", "seg": "SEG", "mucov": "MUCov"}  # metrics of table 1 in Tokuoka et al. 2020
_ALL, _LATE = "all", "over 8"
_LATE_FROM = 9  # nuclei


def compare_methods(
    predictions: Mapping[str, Path], reference: Path, *, spacing: Sequence[float] | None = None
) -> list[Row]:
    """Compute every metric for every volume and method.

    Parameters
    ----------
    predictions
        Folders of label images, or single label images, by method name.
    reference
        Folder of label images with the same names, or a single label image.
    spacing
        See ``evaluate_labels``.

    Returns
    -------
    list of dict
        ``method``, ``image``, ``embryo``, ``frame``, ``stage`` (of the reference) and the metrics.

    Raises
    ------
    InputError
        If a method lacks an image of the reference, or files cannot be read.
    """
    rows: list[Row] = []
    for method, prediction in predictions.items():
        scores = evaluate_labels(prediction, reference, spacing=spacing)
        if "tracks" in scores:
            raise InputError(
                f"expected label images in {prediction}, got a tracked series: evaluate it alone"
            )
        if "mean" not in scores:  # names of single images may differ
            scores = {label_stem(reference): next(iter(scores.values()))}
        scores.pop("mean", None)
        places = {
            stem: (series.name, frame)
            for series in group_series(scores)
            for stem, frame in zip(series.stems, series.frames, strict=True)
        }
        for stem, values in scores.items():
            embryo, frame = places[stem]
            stage = str(stage_of([int(values["n_ref"])])[0])
            own = {"method": method, "image": stem, "embryo": embryo, "frame": frame, "stage": stage}
            rows.append(own | values)
    return rows


def summarise(rows: Sequence[Row], metrics: Iterable[str]) -> list[Row]:
    """Compute mean, spread and confidence interval per method, stage and metric.

    Stages are those of the reference; ``all`` pools all volumes, ``over 8`` those of more than 8 nuclei.
    See ``core.metrics.statistics.estimate``.
    """
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        for stage in (_ALL, _LATE, *STAGES):
            mine = [row for row in rows if row["method"] == method and _within(row, stage)]
            for metric in metrics if mine else ():
                got = estimate([row[metric] for row in mine], [row["embryo"] for row in mine])
                found.append({"method": method, "stage": stage, "metric": metric, **got._asdict()})
    return found


def differences(rows: Sequence[Row], metrics: Iterable[str] = METRICS) -> list[Row]:
    """Compare the first method with each other method, volume by volume.

    Differences are the first method's score minus the other's. ``share_better`` and ``share_worse`` are
    fractions of the volumes in which both scores are defined.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    by = {(row["method"], row["image"]): row for row in rows}
    found = []
    for rival in methods[1:]:
        for stage in (_ALL, _LATE):
            mine = [row for row in rows if row["method"] == methods[0] and _within(row, stage)]
            for metric in metrics if mine else ():
                gains = np.array([row[metric] - by[rival, row["image"]][metric] for row in mine], float)
                got = estimate(gains, [row["embryo"] for row in mine])
                known = gains[~np.isnan(gains)]
                shares = {
                    f"share_{name}": float(np.mean(sign * known > 0)) if len(known) else math.nan
                    for name, sign in (("better", 1), ("worse", -1))
                }
                pair = {"method": methods[0], "rival": rival, "stage": stage, "metric": metric}
                found.append({**pair, **got._asdict(), **shares})
    return found


def write_comparison(rows: Sequence[Row], out: str | Path) -> Path:
    """Write the scores of `compare_methods`, with summaries, and return ``table.md``.

    Writes ``scores.csv`` and ``scores.json`` (a row per method and volume), ``summary.csv``,
    ``differences.csv`` for several methods, and ``table.md``, laid out as table 1 of Tokuoka et al. 2020.

    Raises
    ------
    OutputError
        If the folder is not writable.
    """
    folder = output_folder(out)
    names = list(dict.fromkeys(name for row in rows for name in row))
    full = [{name: row.get(name, math.nan) for name in names} for row in rows]
    summary = summarise(full, names[5:])
    gains = differences(full)
    write_csv(folder / "scores.csv", full)
    write_json(folder / "scores.json", full)
    write_csv(folder / "summary.csv", summary)
    if gains:
        write_csv(folder / "differences.csv", gains)
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(markdown(summary, gains), encoding="utf-8")
    return folder / "table.md"


def markdown(summary: Sequence[Row], gains: Sequence[Row]) -> str:
    """Format means (SD) with intervals by stage, and differences, as Markdown."""
    titles = {_ALL: "All volumes", _LATE: "Volumes of more than 8 nuclei"}
    at = {(row["method"], row["stage"], row["metric"]): row for row in summary}
    methods = list(dict.fromkeys(row["method"] for row in summary))
    parts = []
    for stage, title in titles.items():
        if any(row["stage"] == stage for row in summary):
            lines = [
                [name, at[name, stage, "iou"]["n"], *(_cell(at[name, stage, metric]) for metric in METRICS)]
                for name in methods
            ]
            head = _table(["method", "volumes", *METRICS.values()], lines)
            parts.append(f"{title}: mean (SD), 95 % interval over embryos\n\n{head}")
    stages = [stage for stage in STAGES if any(row["stage"] == stage for row in summary)]
    for metric, title in METRICS.items():
        lines = [[name, *(f"{at[name, one, metric]['mean']:.3f}" for one in stages)] for name in methods]
        parts.append(f"{title} by number of nuclei\n\n" + _table(["method", *stages], lines))
    if gains:
        pairs = [
            [
                f"{one['method']} - {one['rival']}",
                one["stage"],
                METRICS[one["metric"]],
                f"{one['mean']:+.3f}" + _interval(one),
                f"{one['share_better']:.0%}",
                f"{one['share_worse']:.0%}",
            ]
            for one in gains
        ]
        columns = ["difference", "volumes", "metric", "mean, 95 % interval", "better in", "worse in"]
        parts.append("Volume by volume\n\n" + _table(columns, pairs))
    return "\n".join(parts)


def _within(row: Row, stage: str) -> bool:
    if stage == _LATE:
        return bool(row["n_ref"] >= _LATE_FROM)
    return stage in (_ALL, row["stage"])


def _cell(row: Row) -> str:
    sd = "" if math.isnan(row["sd"]) else f" ({row['sd']:.3f})"
    return f"{row['mean']:.3f}{sd}{_interval(row)}"


def _interval(row: Row) -> str:
    return "" if math.isnan(row["low"]) else f", {row['low']:.3f} to {row['high']:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
