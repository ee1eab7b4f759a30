"""Exported networks: same logits at any size, and valid bioimage.io packages."""

import hashlib
import re
import socket
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import typer
import yaml
from torch.testing import assert_close
from typer.testing import CliRunner

from qcanet_monai.bundle.bundle import SHIPPED, Bundle
from qcanet_monai.cli.export import export
from qcanet_monai.errors import MissingPackageError, ModelError, OutputError
from qcanet_monai.exchange.export import export_network
from qcanet_monai.exchange.model_package import check_package
from qcanet_monai.exchange.network_files import check_onnx, check_torchscript
from qcanet_monai.nn.unet import UNet3D
from qcanet_monai.simulator.series import simulate_frame
from qcanet_monai.training.export import export_bundle

ROOT = Path(__file__).parents[2]
OTHER_SIZES = ((1, 1, 2, 2, 2), (2, 1, 8, 2, 10))  # not among the sizes that the export checks
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "bioimageio": ("bioimageio.core",)}


def need(*formats):
    for name in formats:
        for package in NEEDED[name]:
            pytest.importorskip(package, reason=f"{package} is of the optional extra `export`")


def small_bundle(folder: Path, **knobs) -> Path:
    export_bundle(SHIPPED / "nsn", folder, {"depth": 1, "channels": 2, **knobs})
    save_weights(folder, 2)
    return folder


def save_weights(folder: Path, outputs: int) -> None:
    torch.manual_seed(0)
    network = UNet3D(depth=1, channels=2, out_channels=outputs)
    torch.save(network.state_dict(), folder / "models/model.pt")


def with_outputs(bundle: Path, count: int) -> None:
    config = bundle / "configs/inference.yaml"
    text = config.read_text(encoding="utf-8")
    assert "out_channels: 2" in text
    config.write_text(text.replace("out_channels: 2", f"out_channels: {count}"), encoding="utf-8")
    save_weights(bundle, count)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def network(bundle) -> torch.nn.Module:
    return Bundle(bundle).predictor(device="cpu").network


@pytest.fixture(scope="module")
def exported(bundle, tmp_path_factory) -> dict[str, Path]:
    """Export all formats without network access."""
    need("onnx", "bioimageio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("an export asks the network"))
        return export_network(bundle, tmp_path_factory.mktemp("exported") / "out")


def images():
    random = torch.Generator().manual_seed(1)
    return [torch.rand(size, generator=random) for size in OTHER_SIZES]


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tensor(content: bytes, folder: Path) -> np.ndarray:
    (folder / "tensor.npy").write_bytes(content)
    return np.load(folder / "tensor.npy", allow_pickle=False)


def test_torchscript_gives_the_networks_logits_on_other_sizes(bundle, network, tmp_path):
    files = export_network(bundle, tmp_path / "out", formats=["torchscript"])
    assert files == {"torchscript": tmp_path / "out/qcanet-nsn.ts"}
    assert list((tmp_path / "out").iterdir()) == [files["torchscript"]]
    loaded = torch.jit.load(files["torchscript"])
    with torch.no_grad():
        for image in images():
            assert_close(loaded(image), network(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["nsn", "ndn"])
def test_the_shipped_networks_are_exported_by_name(name, tmp_path):
    files = export_network(name, tmp_path, formats=["torchscript"])
    assert files["torchscript"] == tmp_path / f"qcanet-{name}.ts"
    state = torch.jit.load(files["torchscript"]).state_dict()
    shipped = torch.load(SHIPPED / name / "models/model.pt", weights_only=True)
    assert all(torch.equal(state[key], value) for key, value in shipped.items())


def test_onnx_gives_the_networks_logits_on_other_sizes(exported, network):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    for image in images():
        (logits,) = session.run(["logits"], {"image": image.numpy()})
        with torch.no_grad():
            assert_close(torch.from_numpy(logits), network(image), atol=1e-4, rtol=1e-4)


def test_nothing_exported_tells_where_it_was_made(exported):
    paths = [str(ROOT), str(Path(torch.__file__).parent)]
    for content in (exported["onnx"].read_bytes(), exported["torchscript"].read_bytes()):
        assert not any(path.encode() in content for path in paths)


def test_a_package_describes_the_network_and_holds_both_formats(exported):
    files = contents(exported["bioimageio"])
    weights = {"qcanet-nsn.ts", "qcanet-nsn.onnx"}
    others = {"rdf.yaml", "README.md", "LICENSE", "cover.png", "test_input.npy", "test_output.npy"}
    assert files.keys() == weights | others
    assert files["qcanet-nsn.ts"] == exported["torchscript"].read_bytes()
    assert files["qcanet-nsn.onnx"] == exported["onnx"].read_bytes()
    rdf = yaml.safe_load(files["rdf.yaml"])
    assert (rdf["type"], rdf["name"], rdf["license"]) == ("model", "QCANet NSN", "MIT")
    assert rdf["format_version"].startswith("0.5.")
    assert rdf["cite"][0]["doi"] == "10.1038/s41540-020-00152-8"
    assert rdf["weights"].keys() == {"torchscript", "onnx"}
    axes = rdf["inputs"][0]["axes"]
    assert [axis.get("id", axis["type"]) for axis in axes] == ["batch", "channel", "z", "y", "x"]
    assert [axis["size"] for axis in axes[2:]] == [{"min": 2, "step": 2}] * 3


def test_a_packages_test_tensors_are_the_bundles_own_input_and_its_softmax(exported, bundle, tmp_path):
    files = contents(exported["bioimageio"])
    seen, found = (tensor(files[f"test_{kind}.npy"], tmp_path) for kind in ("input", "output"))
    predictor = Bundle(bundle).predictor(device="cpu")
    image = simulate_frame(12, spacing=(1.6, 1.6, 1.6), shape=(40, 64, 64)).image
    prepared = predictor.preprocess(image, spacing=(1.6, 1.6, 1.6))
    np.testing.assert_array_equal(seen, prepared.numpy())
    assert seen.std() > 0.1
    with torch.no_grad():
        probability = predictor.network(prepared).softmax(1).numpy()
    np.testing.assert_allclose(found, probability, atol=1e-6)


def test_a_package_of_one_output_on_a_given_grid_states_both(tmp_path):
    need("bioimageio")
    bundle = small_bundle(tmp_path / "one", isotropic_spacing_um=2.0)
    with_outputs(bundle, 1)
    (bundle / "LICENSE").write_text("All rights reserved\n", encoding="utf-8")
    files = export_network(bundle, tmp_path / "out", formats=["bioimageio"])
    assert list((tmp_path / "out").iterdir()) == [files["bioimageio"]]
    held = contents(files["bioimageio"])
    rdf = yaml.safe_load(held["rdf.yaml"])
    assert rdf["weights"].keys() == {"torchscript"}
    assert rdf.get("license") is None
    assert held["LICENSE"] == b"All rights reserved\n"
    assert rdf["outputs"][0]["postprocessing"][0]["id"] == "sigmoid"
    assert {(axis["unit"], axis["scale"]) for axis in rdf["inputs"][0]["axes"][2:]} == {("micrometer", 2.0)}
    assert "cubic voxels of 2 µm" in held["README.md"].decode()
    found = tensor(held["test_output.npy"], tmp_path)
    assert found.shape == (1, 1, 40, 64, 64)
    assert found.min() >= 0
    assert found.max() <= 1


def test_torchscript_of_other_weights_fails_its_check(bundle, network, tmp_path):
    path = export_network(bundle, tmp_path, formats=["torchscript"])["torchscript"]
    check_torchscript(path, network)
    tampered = torch.jit.load(path)
    with torch.no_grad():
        tampered.head.bias += 0.01
    torch.jit.save(tampered, str(path))
    with pytest.raises(ModelError, match="expected torchscript to give the network's logits up to 1e-05"):
        check_torchscript(path, network)


def test_onnx_of_other_weights_fails_its_check(exported, network, tmp_path):
    import onnx

    check_onnx(exported["onnx"], network)
    model = onnx.load(exported["onnx"])
    (head,) = [value for value in model.graph.initializer if value.name == "head.weight"]
    changed = onnx.numpy_helper.to_array(head) + np.float32(0.01)
    head.CopyFrom(onnx.numpy_helper.from_array(changed, head.name))
    onnx.save(model, tmp_path / "tampered.onnx")
    with pytest.raises(ModelError, match=r"expected onnx to give the network's logits up to 0\.0001"):
        check_onnx(tmp_path / "tampered.onnx", network)


@pytest.mark.parametrize("hashed", [False, True])
def test_a_package_of_another_test_output_fails_its_check(exported, tmp_path, hashed):
    files = contents(exported["bioimageio"])
    np.save(tmp_path / "other.npy", tensor(files["test_output.npy"], tmp_path)[:, ::-1])
    other = (tmp_path / "other.npy").read_bytes()
    if hashed:  # so that only a run detects the change
        old, new = (hashlib.sha256(content).hexdigest() for content in (files["test_output.npy"], other))
        files["rdf.yaml"] = files["rdf.yaml"].replace(old.encode(), new.encode())
    path = write_zip(tmp_path / "tampered.zip", files | {"test_output.npy": other})
    with pytest.raises(
        ModelError, match=r"tampered\.zip does not: .*" + ("disagree" if hashed else "")
    ) as caught:
        check_package(path)
    assert "\n" not in str(caught.value)


def test_an_export_that_fails_its_check_leaves_what_was_there(bundle, tmp_path):
    path = export_network(bundle, tmp_path / "out", formats=["torchscript"])["torchscript"]
    before = path.read_bytes()
    broken = small_bundle(tmp_path / "broken")
    state = torch.load(broken / "models/model.pt", weights_only=True)
    state["head.bias"] += torch.nan
    torch.save(state, broken / "models/model.pt")
    for out in ("out", "new"):
        with pytest.raises(ModelError, match="got nan"):
            export_network(broken, tmp_path / out, formats=["torchscript"])
    assert list((tmp_path / "out").iterdir()) == [path]
    assert path.read_bytes() == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnxruntime"), ("bioimageio", "bioimageio.core")])
def test_a_missing_package_is_named_with_its_extra(bundle, tmp_path, monkeypatch, kind, package):
    for name in NEEDED[kind]:
        if name != package:
            pytest.importorskip(name, reason=f"{name} is of the optional extra `export`")
    monkeypatch.setitem(sys.modules, package, None)  # Python treats None as "not found"
    with pytest.raises(MissingPackageError, match=rf"{package}: pip install 'qcanet-monai\[export\]'"):
        export_network(bundle, tmp_path / "out", formats=["torchscript", kind])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("reference", "said"),
    [("none", "a folder .* got 'none'"), ("qcanet", "one network, got .* with nsn, ndn")],
)
def test_what_is_no_single_network_is_refused_by_name(reference, said, tmp_path):
    with pytest.raises(ModelError, match=said):
        export_network(reference, tmp_path / "out", formats=["torchscript"])
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(bundle, tmp_path):
    with pytest.raises(OutputError, match="torchscript, onnx, bioimageio, got 'keras'"):
        export_network(bundle, tmp_path / "out", formats=["keras"])


def test_a_network_of_three_classes_is_refused(tmp_path):
    bundle = small_bundle(tmp_path / "three")
    with_outputs(bundle, 3)
    with pytest.raises(ModelError, match="UNet3D of one or two outputs"):
        export_network(bundle, tmp_path / "out", formats=["torchscript"])


def test_metadata_that_bioimage_io_refuses_are_told_in_one_line(tmp_path):
    need("bioimageio")
    bundle = small_bundle(tmp_path / "odd")
    metadata = bundle / "configs/metadata.json"
    text = metadata.read_text(encoding="utf-8").replace('"QCANet NSN"', '"NSN/2"')
    metadata.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"format refuses .*odd: .*name") as caught:
        export_network(bundle, tmp_path / "out", formats=["bioimageio"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command_writes_the_formats_asked_for_and_names_them(bundle, tmp_path):
    app = typer.Typer()
    app.command()(export)
    words = [str(bundle), "--out", str(tmp_path / "out"), "--format", "torchscript"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"torchscript: {tmp_path / 'out/qcanet-nsn.ts'}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["qcanet-nsn.ts"]


def test_the_snippet_of_the_docs_finds_the_nuclei_that_the_bundle_finds(tmp_path, monkeypatch):
    need("onnx")
    frame = simulate_frame(12, spacing=(1.6, 1.6, 1.6), shape=(30, 50, 50))
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("image.tif", frame.image)
    export_network("nsn", "runs/exported", formats=["onnx"])
    text = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "(1.75, 0.8, 0.8)" in snippet
    names: dict[str, np.ndarray] = {}
    exec(snippet.replace("(1.75, 0.8, 0.8)", "(1.6, 1.6, 1.6)"), names)
    predictor = Bundle(SHIPPED / "nsn").predictor(device="cpu", precision="fp32")
    expected = predictor(frame.image, spacing=frame.spacing)
    np.testing.assert_allclose(names["probability"], expected, atol=1e-3)
    assert names["mask"].sum() > 500
    np.testing.assert_array_equal(names["mask"], names["probability"] >= 0.5)
