"""Reasons to doubt a segmentation."""

import math

import numpy as np
import pytest

from qcanet_monai.core.measure.evidence import NO_EVIDENCE, Evidence
from qcanet_monai.core.scale import Scale
from qcanet_monai.segmentation.doubts import doubts_of

CLEAR, SURE = Evidence(8.0, 40.0), Scale(12.0, confidence=0.8)


def told(*diameters, shown=CLEAR, scale=SURE, voxels=10**6):
    """Doubts about objects of these diameters in µm, on voxels of 1 µm."""
    volumes = np.pi / 6 * np.array(diameters, float) ** 3
    table = {"label": np.arange(len(volumes)), "n_voxels": volumes.round(), "volume_um3": volumes}
    return doubts_of(table, shown, scale, voxels=voxels)


def test_nuclei_that_are_clear_and_sure_are_not_doubted():
    assert told(12, 13, 11) == told() == told(12, scale=Scale(math.nan)) == ()
    assert told(12, 2, 2, 2) == ()  # a few specks


@pytest.mark.parametrize(
    ("doubted", "why"),
    [
        (told(50), "its objects are 50 µm wide"),
        (told(12, voxels=1000), "fill 90% of the image"),
        (told(12, shown=Evidence(1.5, 4.0)), "hardly differ from the noise around them"),
        (told(12, shown=NO_EVIDENCE), "hardly differ from the noise around them"),
        (told(*[5] * 9), "its objects are 5.0 µm wide where the foreground is 12.0 µm thick"),
        (told(20), "its objects are 20.0 µm wide where the foreground is 12.0 µm thick"),
        (told(12, scale=Scale(12.0, confidence=0.4)), "the networks are uncertain at every scale"),
    ],
)
def test_each_reason_is_told(doubted, why):
    assert len(doubted) == 1
    assert why in doubted[0]


@pytest.mark.parametrize("shown", [Evidence(3.1, 3.1), Evidence(2.0, 30.0)])
def test_either_contrast_or_number_of_voxels_is_enough(shown):
    assert told(12, shown=shown) == ()
