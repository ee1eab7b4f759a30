"""Scores of methods over time (Tokuoka et al. 2020, supplementary figure 12)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qcanet_monai.evaluation.comparison import METRICS, write_comparison
from qcanet_monai.report.figures import band, new_panels, save_figure


def scores_over_time(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plot the paper's metrics over frames: mean and spread over embryos per method.

    The spread is the standard deviation (n - 1); NaN scores are left out.

    Parameters
    ----------
    rows
        Rows of ``evaluation.comparison.compare_methods``.
    """
    figure, axes = new_panels(len(METRICS), 2.0)
    for one, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for method in dict.fromkeys(row["method"] for row in rows):
            mine = [row for row in rows if row["method"] == method]
            frames = sorted({row["frame"] for row in mine})
            values = [np.array([row[metric] for row in mine if row["frame"] == frame]) for frame in frames]
            known = [part[~np.isnan(part)] for part in values]
            mean = np.array([part.mean() if len(part) else np.nan for part in known])
            spread = np.array([part.std(ddof=1) if len(part) > 1 else np.nan for part in known])
            (line,) = one.plot(frames, mean, marker="o", ms=3, lw=1.2, label=method)
            band(one, np.array(frames), mean, spread, line.get_color())
        one.set(ylabel=title, ylim=(0, 1.02))
    axes[-1].set_xlabel("frame")
    axes[0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def write_report_of(rows: Sequence[dict[str, Any]], out: str | Path) -> Path:
    """Write scores, tables and the figure ``over_time`` into `out`.

    Returns the path of the Markdown table. See ``evaluation.comparison.write_comparison``.
    """
    table = write_comparison(rows, out)
    save_figure(scores_over_time(rows), table.with_name("over_time"))
    return table
