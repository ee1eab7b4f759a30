"""Joint loss: closed forms on a few voxels; missing annotation is ignored."""

import math

import pytest
import torch

from qcanet_monai.nn.joint_loss import JointLoss

NAN = math.nan


def volume(*channels):
    return torch.tensor(channels, dtype=torch.float32)[None, :, None, None]


def logit(p):
    return math.log(p / (1 - p))


# probabilities 0.8 and 0.4, density 0.5 and 0.25
OUTPUTS = volume([logit(0.8), logit(0.4)], [0.5, 0.25])
TARGET = volume([3, 1], [1, 0], [1, 0])
DICE = 1 - 2 * 0.8 / (0.8**2 + 0.4**2 + 1)
CROSS_ENTROPY = -(3 * math.log(0.8) + math.log(0.6)) / 4
DENSITY = (21 * 0.5 + 0.25) / (21 + 2e-3)


def unknown(target, channel):
    """Mark a channel as not annotated by one NaN voxel."""
    target = target.clone()
    target[:, channel, 0, 0, 0] = NAN
    return target


def gradient(loss, outputs, target):
    outputs = outputs.clone().requires_grad_()
    loss(outputs, target).backward()
    return outputs.grad


def test_the_terms_are_their_formulas():
    assert JointLoss()(OUTPUTS, TARGET).item() == pytest.approx(DICE + CROSS_ENTROPY + DENSITY, abs=1e-5)


def test_each_weight_is_its_terms_factor():
    loss = JointLoss(density_weight=10, dice_weight=0)(OUTPUTS, TARGET).item()
    assert loss == pytest.approx(CROSS_ENTROPY + 10 * DENSITY, abs=1e-5)


def test_without_border_weights_the_cross_entropy_is_a_plain_mean():
    loss = JointLoss(border_weights=False, density_weight=0, dice_weight=0)(OUTPUTS, TARGET).item()
    assert loss == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2, abs=1e-5)


def test_a_uniform_weight_changes_nothing():
    target = volume([7, 7], [1, 0], [1, 0])
    plain = JointLoss(border_weights=False)(OUTPUTS, target)
    assert JointLoss()(OUTPUTS, target).item() == pytest.approx(plain.item(), abs=1e-6)


def test_weights_of_0_leave_voxels_out_and_may_leave_out_all():
    loss = JointLoss(density_weight=0, dice_weight=0)
    assert loss(OUTPUTS, volume([2, 0], [1, 0], [1, 0])).item() == pytest.approx(-math.log(0.8), abs=1e-5)
    assert loss(OUTPUTS, volume([0, 0], [1, 0], [1, 0])).item() == 0


def test_to_find_no_nucleus_costs_up_to_1_the_more_there_are():
    loss = JointLoss(dice_weight=0)
    for count in (10, 1000):
        target = volume([1] * 2000, [0] * 2000, [1] * count + [0] * (2000 - count))
        outputs = volume([-100] * 2000, [0] * 2000)
        assert loss(outputs, target).item() == pytest.approx(21 * count / (21 * count + 2))


def test_without_a_peaks_weight_the_densitys_error_is_plain():
    plain = JointLoss(peak_weight=0, dice_weight=0)(OUTPUTS, unknown(TARGET, 1))
    assert plain.item() == pytest.approx(0.75 / 1.002, abs=1e-6)


def test_the_dice_is_that_of_the_batch_not_of_its_samples():
    empty = volume([1, 1], [0, 0], [0, 0])
    batch, target = torch.cat([OUTPUTS, OUTPUTS]), torch.cat([TARGET, empty])
    expected = 1 - 2 * 0.8 / (2 * (0.8**2 + 0.4**2) + 1)
    plain = JointLoss(density_weight=0)(batch, target) - JointLoss(density_weight=0, dice_weight=0)(
        batch, target
    )
    assert plain.item() == pytest.approx(expected, abs=1e-5)


def test_a_sample_without_a_mask_teaches_its_density_alone():
    assert JointLoss()(OUTPUTS, unknown(TARGET, 1)).item() == pytest.approx(DENSITY, abs=1e-6)
    found = gradient(JointLoss(), OUTPUTS, unknown(TARGET, 1))
    assert not found[:, 0].any()
    assert found[0, 1].flatten().tolist() == pytest.approx([-21 / 21.002, 1 / 21.002])


def test_a_sample_without_a_density_teaches_its_mask_alone():
    target = unknown(TARGET, 2)
    assert JointLoss()(OUTPUTS, target).item() == pytest.approx(DICE + CROSS_ENTROPY, abs=1e-5)
    found = gradient(JointLoss(), OUTPUTS, target)
    assert not found[:, 1].any()
    assert torch.isfinite(found).all()
    assert found[:, 0].all()


def test_of_a_mixed_batch_each_term_takes_the_samples_that_have_it():
    other = volume([logit(0.3), logit(0.9)], [2.0, -1.0])
    outputs = torch.cat([OUTPUTS, other])
    target = torch.cat([unknown(TARGET, 2), unknown(unknown(TARGET, 1), 0)])
    expected = DICE + CROSS_ENTROPY + (21 + 1) / (21 + 2e-3)
    assert JointLoss()(outputs, target).item() == pytest.approx(expected, abs=1e-5)
    found = gradient(JointLoss(), outputs, target)
    assert torch.isfinite(found).all()
    assert not found[0, 1].any()
    assert not found[1, 0].any()
    assert found[0, 0].all()
    assert found[1, 1].all()


def test_where_nothing_is_annotated_the_loss_is_0_and_still_has_a_gradient():
    target = torch.full((2, 3, 4, 4, 4), NAN)
    outputs = torch.randn(2, 2, 4, 4, 4, requires_grad=True)
    loss = JointLoss()(outputs, target)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))


def test_a_target_larger_than_the_outputs_is_cropped_to_its_centre():
    torch.manual_seed(0)
    target = torch.rand(2, 3, 8, 10, 12)
    outputs = torch.randn(2, 2, 4, 4, 4)
    centre = target[:, :, 2:6, 3:7, 4:8]
    assert JointLoss()(outputs, target).item() == JointLoss()(outputs, centre).item()
    # voxels beyond the outputs need no annotation
    target[..., 0] = NAN
    assert JointLoss()(outputs, target).item() == JointLoss()(outputs, centre).item()


def test_the_loss_is_computed_in_fp32_whatever_the_outputs_are():
    outputs = torch.randn(1, 2, 16, 16, 16).bfloat16()
    target = torch.rand(1, 3, 16, 16, 16)
    loss = JointLoss()(outputs, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(JointLoss()(outputs.double(), target).item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert JointLoss()(outputs, target).item() == pytest.approx(loss.item(), rel=1e-6)


def test_a_perfect_answer_costs_nothing():
    outputs = volume([50, -50], [1, 0])
    assert JointLoss()(outputs, TARGET).item() == pytest.approx(0, abs=1e-6)
