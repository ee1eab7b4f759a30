"""Figure of volume over time (Mikeščíková 2023, figs 6.7 and 6.8)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qcanet_monai.report.figures import new_panels, save_figure
from qcanet_monai.timelapse.volumes import write_volumes


def volume_over_time(rows: Sequence[dict[str, Any]]) -> Figure:
    """Plot volume (µm³) and relative error (%) of each series over time.

    Reference volumes are dashed; without any, the panel of errors is omitted. Time is in hours, or in frames
    if the hours of some rows are unknown.

    Parameters
    ----------
    rows
        Rows of ``timelapse.volumes.volumes_over_time``.
    """
    known = any(np.isfinite(row["reference_um3"]) for row in rows)
    clock = "time_h" if all(np.isfinite(row["time_h"]) for row in rows) else "frame"
    figure, axes = new_panels(2 if known else 1, 2.5)
    for name in dict.fromkeys(row["series"] for row in rows):
        mine = [row for row in rows if row["series"] == name]
        times, volume, true, error = (
            np.array([row[key] for row in mine], float)
            for key in (clock, "volume_um3", "reference_um3", "relative_error")
        )
        (line,) = axes[0].plot(times, volume, marker="o", ms=3, lw=1.2, label=name)
        if known:
            axes[0].plot(times, true, ls="--", lw=1.0, color=line.get_color())
            axes[1].plot(times, 100 * error, marker="o", ms=3, lw=1.2, color=line.get_color())
    axes[0].set(ylabel="volume (µm³)" + (", dashed: reference" if known else ""), ylim=(0, None))
    axes[0].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    if known:
        axes[1].set(ylabel="relative error (%)", ylim=(0, None))
    axes[-1].set_xlabel("hours" if clock == "time_h" else "frame")
    return figure


def write_volume_report(rows: Sequence[dict[str, Any]], out: Path) -> Path:
    """Write ``volume.csv`` and the figure ``volume`` into `out`; return the CSV path."""
    table = out / "volume.csv"
    write_volumes(rows, table)
    save_figure(volume_over_time(rows), table.with_suffix(""))
    return table
