"""Files that MONAI and its model zoo expect of every bundle, without a training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, load, verify_metadata, verify_net_in_out

from qcanet_monai.nn.unet import count_parameters

ROOT = Path(__file__).parents[2]
NETWORKS = ("nsn", "ndn")
BUNDLES = sorted(path.parts[-3] for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
ZOO_FIELDS = (
    *("version", "changelog", "monai_version", "pytorch_version", "numpy_version"),
    *("required_packages_version", "task", "description", "authors", "copyright", "network_data_format"),
)


def configs(name: str, *files: str) -> list[str]:
    return [str(ROOT / "bundles" / name / "configs" / f"{file}.yaml") for file in files]


def parse(name: str, *files: str, **overrides: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(configs(name, *files))
    parser.update({"bundle_root": str(ROOT / "bundles" / name), **overrides})
    return parser


def metadata(name: str) -> dict:
    return json.loads((ROOT / "bundles" / name / "configs/metadata.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_has_the_files_and_fields_that_the_model_zoo_requires(name):
    folder = ROOT / "bundles" / name
    for file in ("LICENSE", "docs/README.md", "configs/metadata.json", "configs/logging.conf"):
        assert (folder / file).is_file(), file
    fields = metadata(name)
    for field in ZOO_FIELDS:
        assert fields[field], field
    assert fields["version"] in fields["changelog"]
    assert len(fields["version"].split(".")) == 3
    assert all(f.stat().st_size <= 10e6 for f in folder.rglob("*") if f.is_file())
    # code belongs to the package: scripts of two bundles would collide in one process
    assert not list(folder.rglob("*.py"))


@pytest.mark.parametrize("name", BUNDLES)
def test_metadata_pass_monais_own_verification(name, tmp_path):
    # MONAI's schema is only online; these are its required fields and their types
    text = {"type": "string"}
    schema = {
        "type": "object",
        "required": ["schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version"],
        "properties": {
            **dict.fromkeys(["schema", "version", "monai_version", "pytorch_version", "numpy_version"], text),
            "changelog": {"type": "object", "additionalProperties": text},
            "required_packages_version": {"type": "object", "additionalProperties": text},
        },
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    meta = ROOT / "bundles" / name / "configs/metadata.json"
    verify_metadata(meta_file=str(meta), filepath=str(tmp_path / "schema.json"))
    jsonschema.validate(metadata(name), schema)


@pytest.mark.parametrize("name", BUNDLES)
def test_the_network_takes_and_gives_what_the_metadata_say(name):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(ROOT / "bundles" / name / "configs/metadata.json"),
        config_file=configs(name, "inference")[0],
        bundle_root=str(ROOT / "bundles" / name),
        device="cpu",
        n=2,
        any=16,
    )


def missing_properties(name: str, kind: str, file: str, **overrides: object) -> list[str] | None:
    workflow = ConfigWorkflow(
        config_file=configs(name, file),
        meta_file=str(ROOT / "bundles" / name / "configs/metadata.json"),
        logging_file=None,
        workflow_type=kind,
        bundle_root=str(ROOT / "bundles" / name),
        **overrides,
    )
    workflow.initialize()
    return workflow.check_properties()


@pytest.mark.parametrize("name", BUNDLES)
def test_inference_lacks_no_property(name, tmp_path, dataset):
    paths = {"dataset_dir": str(dataset / "Images/train/Images"), "output_dir": str(tmp_path)}
    assert missing_properties(name, "inference", "inference", **paths) == []


@pytest.mark.parametrize(
    ("name", "count"),
    [("nsn", 1_147_618), ("ndn", 44_450_498), ("cellseg3d", 1_281_411), ("spindle", 1_405_340)],
)
def test_the_papers_overlay_builds_the_papers_network(name, count):
    parser = parse(name, "train", "paper")
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert count_parameters(network) == count


def test_the_other_backbone_is_that_of_the_paper():
    with torch.device("meta"):
        network = parse("cellseg3d", "train", backbone="voxresnet").get_parsed_content("network_def")
    assert count_parameters(network) == 6_259_244


def test_the_rivals_overlay_builds_the_3d_unet_trained_as_the_paper_does():
    parser = parse("nsn", "train", "paper", "unet3d")
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert count_parameters(network) == 19_073_730
    assert parser["loss"] == "dice"


@pytest.mark.parametrize(("name", "count"), [("nsn", 1_147_585), ("ndn", 44_450_473)])
def test_the_sigmoid_overlay_has_one_channel(name, count):
    parser = parse(name, "train", "paper", "sigmoid")
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert count_parameters(network) == count
    logits, classes = torch.tensor([[[[[0.5, -1.0]]]]]), torch.tensor([[[[[1.0, 0.0]]]]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, classes)
    assert parser.get_parsed_content("loss_function")(logits, classes) == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_the_fine_tuning_overlay_begins_with_the_bundles_weights_and_bends_grey_values(name, dataset):
    parser = parse(name, "train", "finetune", device=torch.device("cpu"), dataset_dir=str(dataset))
    network = parser.get_parsed_content("network")
    shipped = torch.load(ROOT / "bundles" / name / "models/model.pt", weights_only=True)
    state = network.state_dict()
    assert all(torch.equal(state[key].contiguous(), value) for key, value in shipped.items())
    kinds = [type(step).__name__ for step in parser.get_parsed_content("train#preprocessing").transforms]
    assert kinds[-2:] == ["RandRotate90d", "RandAdjustContrastd"]


PAPER = {
    "nsn": {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 9e-5},
    "ndn": {
        "optimizer": "adam",
        "learning_rate": 0.07984884,
        "betas": [0.91131574, 0.99311085],
        "eps": 0.07309958,
        "weight_decay": 5.70679784e-6,
    },
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_papers_overlay_sets_the_papers_training(name):
    parser = parse(name, "train", "paper")
    shared = {"epochs": 150, "batch_size": 1, "patch_size": 128, "loss": "dice", "normalisation": "min_max"}
    for key, value in (PAPER[name] | shared).items():
        assert parser[key] == value, key
    optimizer = parse(name, "train", "paper", depth=1, channels=2, kernel_size=1).get_parsed_content(
        "optimizer_def"
    )
    assert type(optimizer).__name__.lower() == PAPER[name]["optimizer"]
    assert optimizer.defaults["lr"] == PAPER[name]["learning_rate"]
    assert optimizer.defaults["weight_decay"] == PAPER[name]["weight_decay"]


@pytest.mark.parametrize("name", BUNDLES)
def test_the_shipped_weights_export_to_torchscript_that_takes_other_shapes(name, tmp_path):
    target = tmp_path / "model.ts"
    ckpt_export(
        net_id="network_def",
        filepath=str(target),
        ckpt_file=str(ROOT / "bundles" / name / "models/model.pt"),
        meta_file=str(ROOT / "bundles" / name / "configs/metadata.json"),
        config_file=configs(name, "inference")[0],
        bundle_root=str(ROOT / "bundles" / name),
    )
    exported = torch.jit.load(str(target)).eval()
    plain = load(name, bundle_dir=str(ROOT / "bundles"), workflow_type="inference").eval()
    image = torch.rand(1, 1, 16, 48, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(exported(image), plain(image), atol=1e-4, rtol=1e-4)


def test_monai_overrides_the_network_definition():
    where = {"bundle_dir": str(ROOT / "bundles"), "workflow_type": "inference"}
    assert load("nsn", net_override={"depth": 2}, **where).depth == 2
    parser = parse("nsn", "inference", **{"network_def#channels": 4})
    assert parser.get_parsed_content("network_def").head.in_channels == 8


def test_the_environment_lets_a_duplicate_key_be_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("MONAI_FAIL_ON_DUPLICATE_CONFIG", "1")
    for name in BUNDLES:
        for file in (ROOT / "bundles" / name / "configs").glob("*.yaml"):
            ConfigParser.load_config_file(str(file))
    doubled = tmp_path / "doubled.yaml"
    doubled.write_text("a: 1\na: 2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="uplicate"):
        ConfigParser.load_config_file(str(doubled))
    assert os.environ["MONAI_FAIL_ON_DUPLICATE_CONFIG"] == "1"


def test_the_configurations_are_those_of_their_source(tmp_path):
    subprocess.run([sys.executable, ROOT / ".ci/bundles.py", tmp_path], check=True)
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path).parts[0] for path in made} == set(BUNDLES)
    for path in made:
        kept = ROOT / "bundles" / path.relative_to(tmp_path)
        assert kept.read_bytes() == path.read_bytes(), (
            f"{kept} has drifted from bundles/_source: make bundles"
        )


@pytest.mark.parametrize("name", [name for name in BUNDLES if name != "qcanet"])
def test_every_setting_is_logged_and_what_inference_knows_is_exported(name):
    train, inference = (
        yaml.safe_load(Path(file).read_text()) for file in configs(name, "train", "inference")
    )
    settings = [*train][: [*train].index("tracking_uri")]
    assert set(settings) - {"imports", "bundle_root", "output_dir"} == set(train["knobs"])
    assert {key: f"@{key}" for key in train["knobs"]} == train["knobs"]
    kept = {"spindle": {"window"}}.get(name, set()) | {"imports", "bundle_root", "output_dir", "dataset_dir"}
    assert set(train["export"]["knobs"]) == set(settings) & set(inference) - kept - {"precision"}
