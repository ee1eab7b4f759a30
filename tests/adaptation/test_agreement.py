"""Agreement of networks with themselves and others, on images without labels."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qcanet_monai.adaptation.agreement import Agreement, agreement, is_worse
from qcanet_monai.io import Volume

IMAGE = Volume(np.arange(2 * 4 * 6, dtype=np.float32).reshape(2, 4, 6), (2.0, 1.0, 1.0), Path("a.tif"))
EDGES = (1.0, 1.0)


class Network(SimpleNamespace):
    """Predictor whose probability is a function of the image."""

    threshold = 0.5

    def __call__(self, image, *, spacing, isotropic_spacing_um):
        assert (spacing, isotropic_spacing_um) == ((2.0, 1.0, 1.0), 1.0)
        return self.function(image).astype(np.float32)


def of_grey(image):  # the same voxels however the image is turned
    return np.where(image > 30, 0.95, 0.02)


def of_place(image):  # the left half of every image
    return np.broadcast_to(np.arange(6) < 3, image.shape)


def test_a_network_that_follows_the_image_agrees_with_its_mirror_images():
    network = Network(function=of_grey)
    assert agreement(network, network, [IMAGE], EDGES) == (1.0, 1.0)


def test_a_network_that_follows_the_place_agrees_along_one_axis_of_two():
    network = Network(function=of_place)
    assert agreement(network, network, [IMAGE], EDGES).mirrored == 0.5


def test_what_the_other_rules_out_or_is_sure_of_counts_and_what_it_doubts_does_not():
    other = Network(function=of_grey)
    more = Network(function=lambda image: image > 13)  # half of it is ruled out
    fewer = Network(function=lambda image: image > 38)  # 9 of 17
    unsure = Network(function=lambda image: np.where(image > 30, 0.6, 0.4))
    assert agreement(more, other, [IMAGE], EDGES).sure == pytest.approx(0.5)
    assert agreement(fewer, other, [IMAGE], EDGES).sure == pytest.approx(9 / 17)
    assert agreement(more, unsure, [IMAGE], EDGES).sure == 1
    nothing = Network(function=np.zeros_like)
    assert agreement(nothing, nothing, [IMAGE], EDGES) == (1.0, 1.0)


def test_worse_is_less_agreement_with_itself_or_contradiction():
    start = Agreement(0.9, 1.0)
    assert not is_worse(Agreement(0.91, 0.97), start)
    assert is_worse(Agreement(0.89, 0.97), start)
    assert is_worse(Agreement(0.95, 0.7), start)
