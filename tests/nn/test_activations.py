"""Activations from logits to outputs."""

import torch
from torch.testing import assert_close

from qcanet_monai.nn.activations import mask_and_density, probabilities


def volume(*values):
    return torch.tensor(values).view(1, -1, 1, 1, 1)


def test_one_logit_is_a_sigmoid_and_several_are_a_softmax():
    three = torch.tensor(3.0).log().item()
    assert_close(probabilities(volume(three)), volume(0.75))
    assert_close(probabilities(volume(0.0, three)), volume(0.25, 0.75))
    assert_close(probabilities(volume(0.0, three, 0.0)), volume(0.2, 0.6, 0.2))


def test_each_voxel_and_image_has_probabilities_of_its_own():
    logits = torch.randn(2, 3, 2, 3, 4)
    found = probabilities(logits)
    assert found.shape == logits.shape
    assert_close(found.sum(1), torch.ones(2, 2, 3, 4))
    assert_close(found[1:, :, 1:, 2:, 3:], probabilities(logits[1:, :, 1:, 2:, 3:]))


def test_a_mask_is_a_probability_and_a_density_is_not_below_0():
    three = torch.tensor(3.0).log().item()
    assert_close(mask_and_density(volume(three, 2.5)), volume(0.75, 2.5))
    assert_close(mask_and_density(volume(-three, -2.5)), volume(0.25, 0.0))
    assert mask_and_density(torch.randn(2, 2, 3, 4, 5)).shape == (2, 2, 3, 4, 5)


def test_what_came_in_is_left_as_it_is():
    for activation in (probabilities, mask_and_density):
        logits = volume(-1.0, -2.0)
        activation(logits)
        assert torch.equal(logits, volume(-1.0, -2.0))
    one = volume(-1.0)
    probabilities(one)
    assert torch.equal(one, volume(-1.0))
