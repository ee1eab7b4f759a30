"""Missing packages of the extras give one-line errors; all else works without."""

import subprocess
import sys

import pytest

from qcanet_monai.errors import MissingPackageError
from qcanet_monai.io import write_volume
from qcanet_monai.optional import EXTRAS, need
from qcanet_monai.simulator.series import simulate_series

ABSENT = sorted({name.split(".")[0] for name in EXTRAS})
RUN = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
from qcanet_monai.cli.main import main
for line in sys.stdin.read().splitlines():
    sys.argv = ["qcanet", *line.split()]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def run(*lines: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", RUN]
    return subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)


def test_images_are_segmented_tracked_measured_and_reported(tmp_path):
    spacing = (4.0, 2.0, 2.0)
    (tmp_path / "images").mkdir()
    for number, frame in enumerate([*simulate_series(3, timepoints=4, spacing=spacing)][2:]):
        write_volume(tmp_path / f"images/e_t{number}.tif", frame.image, spacing=spacing)
    out = tmp_path / "out"
    done = run(
        f"segment {tmp_path / 'images'} --interval-min 10 --out {out}",
        f"track {out}",
        f"criteria {out / 'tracks'}",
        f"report {out}",
    )
    assert done.returncode == 0, done.stderr
    assert (out / "report/index.html").is_file()


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        ("tune smoke --storage STORE", "ray", "tune"),
        ("promote nsn --bundle bundled --data DATA", "mlflow", "mlflow"),
        ("segment IMAGE --model models:/qcanet@champion --out OUT", "mlflow", "mlflow"),
        ("ui", "mlflow", "mlflow"),
        ("export nsn --format onnx --out OUT", "onnx", "export"),
    ],
)
def test_what_needs_an_extra_names_it_in_one_line(tmp_path, line, package, extra):
    image = tmp_path / "a.tif"
    image.write_bytes(b"no image")
    for word in ("STORE", "DATA", "OUT"):
        line = line.replace(word, str(tmp_path / word.lower()))
    done = run(line.replace("IMAGE", str(image)))
    assert done.returncode == 2
    (told,) = [said for said in done.stderr.splitlines() if said.startswith("qcanet: ")]
    assert told == f"qcanet: expected the package {package}: pip install 'qcanet-monai[{extra}]'"
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif"}


def test_a_package_within_an_absent_one_is_absent(monkeypatch):
    monkeypatch.setitem(EXTRAS, "nowhere.core", "export")
    with pytest.raises(MissingPackageError, match=r"nowhere\.core: pip install 'qcanet-monai\[export\]'"):
        need("nowhere.core")
