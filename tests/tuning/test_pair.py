"""A study of NSN and NDN together, up to the thresholds of its winner."""

import json

import pytest

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.io import read_volume
from qcanet_monai.io.dataset import pairs
from qcanet_monai.promotion.promote import promote
from qcanet_monai.segmentation.load import load_segmenter

pytestmark = pytest.mark.slow


def test_a_pair_is_searched_trained_and_calibrated(tuning, dataset):
    study = tuning(
        bundle="qcanet",
        space={
            "networks#nsn#channels": {"choices": [2, 3]},
            "networks#ndn#loss": {"choices": ["dice", "dice_cross_entropy"]},
            "learning_rate": {"low": 5.0e-3, "high": 2.0e-2, "log": True},
        },
        settings={
            "folds": 2,
            "isotropic_spacing_um": 2.5,
            "networks#nsn#depth": 1,
            "networks#ndn#depth": 1,
            "networks#ndn#channels": 3,
            "patch_size": 16,
            "patches_per_volume": 4,
            "validation_volumes": 2,
        },
        trials=2,
        epochs=3,
        calibrate=True,
    )
    ended = study.run()
    assert ended.returncode == 0, ended.stderr
    assert "choosing thresholds" in ended.stderr
    summary = json.loads((study.root / "summary.json").read_text())
    chosen = summary["calibration"]
    assert summary["objective"] == "seg"
    assert chosen["volumes"] == 2
    assert chosen["after"]["pq"] >= chosen["before"]["pq"]
    best = Bundle(study.root / "best")
    inside = best.inference["networks"]
    assert inside["nsn"]["channels"] == best.training["networks"]["nsn"]["channels"]
    assert inside["nsn"]["channels"] == summary["settings"]["networks#nsn#channels"]
    assert (inside["nsn"]["depth"], inside["ndn"]["channels"]) == (1, 3)
    for key, value in chosen["settings"].items():
        _, network, name = key.split("#")
        assert inside[network][name] == value
    assert "(calibrated)" in (best.folder / "docs/README.md").read_text()
    image = read_volume(pairs(dataset, "train", "QCANet")[0]["image"])
    labels = load_segmenter(best.folder)(image).labels
    assert labels.shape == image.array.shape
    done = promote("qcanet", study=study.root.name, tracking_uri=study.uri)
    assert (done.version, done.metric) == ("1", "seg")
    registered = Bundle.find("models:/qcanet@champion", tracking_uri=study.uri)
    assert registered.inference["networks"] == inside
