"""The qcanet bundle gives the same results as the command line."""

import numpy as np
import pytest
from helpers import run_bundle

from qcanet_monai.bundle.bundle import SHIPPED
from qcanet_monai.errors import QCANetError
from qcanet_monai.io import read_csv, read_labels
from qcanet_monai.io.names import list_images
from qcanet_monai.segmentation.batch import segment_files
from qcanet_monai.segmentation.load import load_segmenter

BUNDLE = SHIPPED / "qcanet"


def test_the_bundle_writes_what_the_command_line_writes(dataset, tmp_path):
    images = dataset / "Images/train/Images"
    run_bundle(BUNDLE, "inference", dataset_dir=images, output_dir=tmp_path / "bundle")
    segment_files(list_images([images]), tmp_path / "cli", load_segmenter())
    names = {p.name for p in (tmp_path / "cli").iterdir()}
    assert {p.name for p in (tmp_path / "bundle").iterdir()} == names
    for name in names:
        if name.endswith("_labels.tif"):
            found = [read_labels(tmp_path / way / name).array for way in ("bundle", "cli")]
            assert np.array_equal(*found)
    tables = [read_csv(tmp_path / way / "nuclei.csv") for way in ("bundle", "cli")]
    assert tables[0].keys() == tables[1].keys()
    assert tables[0]["volume_um3"] == pytest.approx(tables[1]["volume_um3"])


def test_a_bad_image_fails_the_bundle_after_the_good_ones_are_done(dataset, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    good = next((dataset / "Images/train/Images").glob("*.tif"))
    (images / "good.tif").write_bytes(good.read_bytes())
    (images / "bad.tif").write_bytes(b"no image")
    with pytest.raises((QCANetError, RuntimeError)) as caught:
        run_bundle(BUNDLE, "inference", dataset_dir=images, output_dir=tmp_path / "out")
    assert "bad.tif" in str(caught.value.__cause__ or caught.value)
    assert (tmp_path / "out/good_labels.tif").is_file()
