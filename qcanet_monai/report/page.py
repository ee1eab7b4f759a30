"""Self-contained HTML report: figures, tables, overlays, warnings, settings."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from qcanet_monai.core.instances.uncertainty import UNSURE
from qcanet_monai.core.metrics.tracks import daughters_of
from qcanet_monai.io import output_folder, read_csv, replacing
from qcanet_monai.report.figures import OF_ALL, centroid_clouds, lineage_tree, save_figure
from qcanet_monai.timelapse.criteria import Embryo, read_embryos, read_tables
from qcanet_monai.timelapse.ctc import read_tracks

_OVERLAYS = 8  # per embryo, evenly spaced in time
_PIXELS = 1200  # longer side of an overlay
_STRANGE = 3.0  # flagged ratio to the median volume of a frame, or its inverse
_MOST_NAMED = 10  # frames listed by a warning

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ddd }
svg { width: 100%; height: auto } table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap }
td:first-child, th:first-child { text-align: left }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .7rem }
.gallery img { width: 100% } figure { margin: 0 } figcaption { font-size: .85rem; color: #555 }
.warnings li { color: #9a3412 }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; font-size: .8rem }
"""


def write_report(folder: str | Path, *, interval_min: float | None = None) -> Path:
    """Write ``FOLDER/report/index.html`` and return its path.

    The page works offline. Its figures are also saved as SVG and PNG.

    Parameters
    ----------
    folder
        Output folder of `qcanet segment`; results of `qcanet track` in it are shown too.
    interval_min
        Minutes between successive frames; from ``run.json`` if None.

    Raises
    ------
    InputError
        If the folder holds no results of `qcanet segment`, or the interval is unknown.
    OutputError
        If the folder cannot be written to.
    """
    folder = Path(folder)
    read_tables(folder)
    tracked = (folder / "tracks" / "tracks.csv").is_file()
    source = folder / "tracks" if tracked else folder
    embryos = read_embryos(source, interval_min=interval_min)
    out = output_folder(folder / "report")
    parts = [_summary(embryos), _warnings(folder, source, embryos)]
    for name, (title, draw) in OF_ALL.items():
        parts.append(_section(title, _saved(draw(embryos), out / name)))
    for embryo in embryos:
        figures = [_saved(centroid_clouds(embryo), out / f"{embryo.name}_centroids")]
        if tracked:
            figures.append(_saved(_tree(source, embryo), out / f"{embryo.name}_lineage"))
        parts.append(_section(f"{embryo.name}: where its nuclei were, and their lineage", *figures))
        parts.append(_section(f"{embryo.name}: overlays", _gallery(folder, embryo)))
    parts.append(_section("Settings and models", f"<pre>{html.escape(_run(folder))}</pre>"))
    title = f"{folder.resolve().name}: {len(embryos)} embryo{'s' if len(embryos) != 1 else ''}"
    page = out / "index.html"
    with replacing(page) as temporary:
        temporary.write_text(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
            f"<body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n",
            encoding="utf-8",
        )
    return page


def _summary(embryos: Sequence[Embryo]) -> str:
    head = "embryo", "frames", "hours", "nuclei, first to last", "stages of an hour or more", "asynchronous"
    rows = []
    for embryo in embryos:
        first, last = embryo.timepoints[0], embryo.timepoints[-1]
        stages = embryo.stages["stage"][embryo.stages["reached"] == 1]
        numbers = f"{first['n_nuclei']} to {last['n_nuclei']}"
        flag = "yes" if embryo.synchrony.asynchronous else "no"
        rows.append(
            (embryo.name, len(embryo.timepoints), f"{last['time_h']:.1f}", numbers, " ".join(stages), flag)
        )
    return _table(head, rows)


def _warnings(folder: Path, source: Path, embryos: Sequence[Embryo]) -> str:
    """List points to check before trusting the numbers."""
    nuclei = read_csv(source / "nuclei.csv")
    images, found = nuclei["image"].astype(str), []
    for embryo in embryos:
        name = embryo.name
        if embryo.series.missing:
            found.append(f"{name}: no image of frame {_listed(embryo.series.missing)}")
        empty = [row["frame"] for row in embryo.timepoints if row["n_nuclei"] == 0]
        if empty:
            found.append(f"{name}: no nucleus in frame {_listed(empty)}")
        mine = np.isin(images, embryo.series.stems)
        frames = dict(zip(embryo.series.stems, embryo.series.frames, strict=True))
        if "repair" in nuclei:
            mended = mine & (nuclei["repair"].astype(str) != "no")
            if mended.any():
                where = sorted({frames[image] for image in images[mended]})
                found.append(f"{name}: {int(mended.sum())} nuclei put back in frame {_listed(where)}")
        unsure = mine & (nuclei["confidence"].astype(float) < UNSURE)
        if unsure.any():
            where = sorted({frames[image] for image in images[unsure]})
            found.append(
                f"{name}: {int(unsure.sum())} of {int(mine.sum())} nuclei are uncertain (confidence below "
                f"{UNSURE:g}), in frame {_listed(where)}"
            )
        strange = []
        for stem, frame in frames.items():
            volumes = nuclei["volume_um3"][images == stem].astype(float)
            if len(volumes) > 2:
                share = volumes / np.median(volumes)
                strange += [frame] if (share > _STRANGE).any() or (share < 1 / _STRANGE).any() else []
        if strange:
            found.append(
                f"{name}: nuclei over three times or under a third of the median volume in frame "
                f"{_listed(strange)} (dividing ones are small)"
            )
        cut = int(nuclei["touches_border"][mine].astype(int).sum())
        if cut:
            found.append(f"{name}: {cut} of {int(mine.sum())} nuclei are cut by the volume's border")
    found += [
        f"{image}: {doubt}" for image, doubts in _state(folder).get("doubts", {}).items() for doubt in doubts
    ]
    found += [f"not segmented: {reason}" for reason in _state(folder).get("failures", {}).values()]
    items = "".join(f"<li>{html.escape(text)}</li>" for text in found) or "<li>none</li>"
    return _section("Warnings", f'<ul class="warnings">{items}</ul>')


def _tree(source: Path, embryo: Embryo) -> Figure:
    tracks = read_tracks(source / f"{embryo.name}_RES" / "res_track.txt")
    nuclei = read_csv(source / "nuclei.csv")
    place = {stem: index for index, stem in enumerate(embryo.series.stems)}
    repaired: dict[int, list[int]] = {}
    for image, label, repair in zip(nuclei["image"], nuclei["label"], nuclei["repair"], strict=True):
        if str(repair) != "no" and str(image) in place:
            repaired.setdefault(int(label), []).append(place[str(image)])
    figure = lineage_tree(tracks, [row["time_h"] for row in embryo.timepoints], repaired)
    figure.suptitle(f"{len(tracks)} tracks, {len(daughters_of(tracks))} divisions", fontsize=9)
    return figure


def _gallery(folder: Path, embryo: Embryo) -> str:
    chosen = np.unique(np.linspace(0, len(embryo.timepoints) - 1, _OVERLAYS).round().astype(int))
    cells = []
    for index in chosen.tolist():
        path = folder / f"{embryo.series.stems[index]}_overlay.png"
        if path.is_file():
            data = _jpeg(path)
            row = embryo.timepoints[index]
            text = f"frame {row['frame']}, {row['time_h']:.1f} h: {row['n_nuclei']} nuclei"
            cells.append(
                f'<figure><img alt="{text}" src="data:image/jpeg;base64,{data}">'
                f"<figcaption>{text}</figcaption></figure>"
            )
    return f'<div class="gallery">{"".join(cells)}</div>'


def _jpeg(path: Path) -> str:
    """Return an image as a small JPEG in base64."""
    stream = io.BytesIO()
    with Image.open(path) as picture:
        small = picture.convert("RGB")
        small.thumbnail((_PIXELS, _PIXELS))
        small.save(stream, "JPEG", quality=85)
    return base64.b64encode(stream.getvalue()).decode()


def _saved(figure: Figure, path: Path) -> str:
    """Save a figure as SVG and PNG, and return its SVG for the page."""
    save_figure(figure, path)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _section(title: str, *parts: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{''.join(parts)}"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    def line(cells: Iterable[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _listed(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _MOST_NAMED} more" if len(numbers) > _MOST_NAMED else ""
    return ", ".join(map(str, numbers[:_MOST_NAMED])) + more


def _state(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _run(folder: Path) -> str:
    state = {key: value for key, value in _state(folder).items() if key not in ("images", "failures")}
    return json.dumps(state, indent=2, ensure_ascii=False) if state else "run.json is not there"
