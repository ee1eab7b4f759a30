"""Contents of the wheel: one package with bundles, lower layers without torch."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    source = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


@pytest.mark.slow
def test_the_wheels_only_top_level_package_is_qcanet_monai(wheel):
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"qcanet_monai"}


@pytest.mark.slow
def test_every_file_of_the_bundles_is_in_the_wheel(wheel):
    apart = {"__pycache__", "_source"}
    files = [p for p in (ROOT / "bundles").rglob("*") if p.is_file() and not apart & {*p.parts}]
    inside = {f"qcanet_monai/bundles/{p.relative_to(ROOT / 'bundles').as_posix()}" for p in files}
    assert inside <= set(wheel)
    assert "qcanet_monai/bundles/qcanet/models/model.pt" in wheel
    assert not [name for name in wheel if "_source" in name]


@pytest.mark.parametrize("floor", ["core", "simulator", "io"])
def test_the_ground_floor_imports_without_torch(floor):
    paths = (ROOT / "qcanet_monai" / floor).rglob("*.py")
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    absent = "import sys; sys.modules.update(dict.fromkeys(('torch', 'monai', 'mlflow')));"
    code = absent + "import importlib; [importlib.import_module(n) for n in sys.argv[1:]]"
    names = [name.removesuffix(".__init__") for name in names]
    subprocess.run([sys.executable, "-c", code, *names], check=True, env=os.environ)


def test_no_folder_shadows_the_mlflow_library():
    assert not list((ROOT / "mlflow").rglob("*.py"))
