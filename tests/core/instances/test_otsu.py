"""Otsu baseline, on balls of known size and number."""

import numpy as np
import pytest

from qcanet_monai.core.instances.otsu import otsu_watershed


def balls(centres, radius_um, spacing, size_um=(40, 60, 60)):
    shape = [round(size / step) for size, step in zip(size_um, spacing, strict=True)]
    grid = np.indices(shape).reshape(3, -1).T * np.array(spacing)
    distance = np.stack([np.linalg.norm(grid - centre, axis=1) for centre in centres])
    labels = np.where(distance.min(0) <= radius_um, distance.argmin(0) + 1, 0)
    return labels.reshape(shape)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.8, 0.8)])
def test_balls_apart_and_touching_are_told_apart(spacing):
    centres = [(20, 15, 15), (20, 15, 31), (20, 45, 20), (20, 45, 33)]  # the last two touch
    true = balls(centres, 7.0, spacing)
    noise = np.random.default_rng(0).normal(0, 10, true.shape)
    found = otsu_watershed(np.where(true > 0, 200, 50) + noise, spacing=spacing).labels
    assert found.max() == 4
    for number in range(1, 5):
        mine = np.unique(found[true == number], return_counts=True)
        label = mine[0][mine[1].argmax()]
        both = ((found == label) & (true == number)).sum()
        assert both / ((found == label) | (true == number)).sum() > 0.8


def test_specks_are_noise():
    spacing = (1.0, 1.0, 1.0)
    image = np.where(balls([(20, 30, 30)], 7.0, spacing) > 0, 200.0, 50.0)
    image[5, 5, 5:7] = 2000
    assert otsu_watershed(image, spacing=spacing).labels.max() == 1
