"""Report page: complete, self-contained, with warnings on doubtful values."""

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from qcanet_monai.core.instances.watershed import Instances
from qcanet_monai.core.metrics.tracks import Track
from qcanet_monai.errors import InputError
from qcanet_monai.io import write_csv, write_json, write_labels
from qcanet_monai.plot.overlay import write_overlay
from qcanet_monai.report.figures import lineage_tree
from qcanet_monai.report.page import write_report
from qcanet_monai.segmentation.result import measure
from qcanet_monai.timelapse.lineage import track

SPACING = (2.0, 1.0, 1.0)


class Links(HTMLParser):
    """External resources and headings of a page."""

    def __init__(self):
        super().__init__()
        self.loaded, self.titles, self._title = [], [], False

    def handle_starttag(self, tag, attrs):
        self._title = tag in ("h1", "h2")
        wanted = {"src"} if tag != "use" else set()
        self.loaded += [value for key, value in attrs if key in wanted or (tag == "link" and key == "href")]

    def handle_data(self, data):
        if self._title:
            self.titles.append(data)
            self._title = False


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two nuclei over six frames; frame 3 lacks one nucleus, frame 4 is missing."""
    rows, stems = [], []
    for frame in (0, 1, 2, 3, 5, 6):
        labels = np.zeros((6, 16, 30), np.uint16)
        labels[2:4, 4:9, 3 + frame : 8 + frame] = 1
        if frame != 3:
            labels[2:4, 4:9, 12 + frame : 17 + frame] = 2
        stem = f"a_t{frame}"
        stems.append(stem)
        write_labels(tmp_path / f"{stem}_labels.tif", labels, spacing=SPACING)
        write_overlay(tmp_path / f"{stem}_overlay.png", labels, labels, spacing=SPACING, title=stem)
        sure = np.where((labels == 2) & (frame == 2), np.float32(0.7), np.float32(0.9))
        table = measure(Instances(labels, foreground=sure), spacing=SPACING)
        for place in range(len(table["label"])):
            rows.append({"image": stem, "frame": frame} | {key: one[place] for key, one in table.items()})
    write_csv(tmp_path / "nuclei.csv", rows)
    write_csv(tmp_path / "timepoints.csv", {"image": stems, "frame": range(6)})
    failures = {"a_t4.tif": "a_t4.tif is <truncated>"}
    write_json(tmp_path / "run.json", {"interval_min": 10, "models": {"nsn": "mine"}, "failures": failures})
    return tmp_path


def test_a_page_holds_all_figures_and_loads_nothing(folder):
    text = write_report(folder).read_text(encoding="utf-8")
    page = Links()
    page.feed(text)
    assert all(one.startswith("data:image/jpeg;base64,") for one in page.loaded)
    assert len(page.loaded) == 6
    assert not re.search(r"(url\(|@import|href=\")\s*['\"]?https?:", text.replace("http://www.w3.org", ""))
    for title in ("Warnings", "Number of nuclei", "Stages", "a: overlays", "Settings and models"):
        assert title in page.titles
    assert text.count("<svg") == 5
    for name in ("nuclei", "sizes", "stages", "inner_outer", "a_centroids"):
        assert (folder / f"report/{name}.svg").stat().st_size > 1000
        assert (folder / f"report/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert '"nsn": "mine"' in text.replace("&quot;", '"')


def test_a_page_tells_what_to_doubt(folder):
    text = write_report(folder).read_text(encoding="utf-8")
    assert "a: no image of frame 4" in text
    assert "not segmented: a_t4.tif is &lt;truncated&gt;" in text
    assert "put back" not in text
    assert "a: 1 of 11 nuclei are uncertain (confidence below 0.75), in frame 2" in text
    track(folder)
    text = write_report(folder).read_text(encoding="utf-8")
    assert "a: 1 nuclei put back in frame 3" in text
    assert text.count("<svg") == 6
    assert "2 tracks, 0 divisions" in text


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected nuclei\.csv in"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_lineage_of_any_depth_is_drawn():
    tracks = [Track(1, 0, 0, 0)] + [Track(n, n - 1, n - 1, n - 1) for n in range(2, 3000)]
    figure = lineage_tree(tracks, list(range(3000)), {})
    assert len(figure.axes[0].lines) == 2 * len(tracks) - 1


@pytest.mark.slow
def test_a_browser_shows_the_page(folder, tmp_path):
    import shutil

    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no browser: apt-get install chromium")
    page = write_report(folder)
    for width in (1100, 420):
        shot = tmp_path / f"{width}.png"
        size = f"--window-size={width},2000"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", size, f"--screenshot={shot}"]
        subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=120)
        assert shot.stat().st_size > 20_000
