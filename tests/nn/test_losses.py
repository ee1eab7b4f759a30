"""Losses against their formulas, computed in NumPy."""

import numpy as np
import pytest
import torch

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.cellseg3d_loss import CellSegLoss
from qcanet_monai.nn.joint_loss import JointLoss
from qcanet_monai.nn.losses import CLASS_LOSSES, LOSSES, build_loss
from qcanet_monai.nn.qcanet import QCANetLoss

SHAPE = (2, 2, 3, 4, 5)


def logits_and_classes(seed=0, share=0.2):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, SHAPE), (rng.random((2, 1, *SHAPE[2:])) < share).astype(np.int64)


def softmax(logits):
    exponential = np.exp(logits)
    return exponential / exponential.sum(1, keepdims=True)


def one_hot(classes):
    return np.concatenate([classes == 0, classes == 1], 1).astype(float)


def loss_of(name, logits, classes):
    return build_loss(name)(torch.tensor(logits), torch.tensor(classes)).item()


def soft_dice(y, g, axes):
    return 1 - 2 * (y * g).sum(axes) / ((y**2).sum(axes) + (g**2).sum(axes))


def cross_entropy(logits, classes):
    return -np.log((softmax(logits) * one_hot(classes)).sum(1)).mean()


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_the_papers_formula_per_volume_and_class(seed):
    logits, classes = logits_and_classes(seed)
    expected = soft_dice(softmax(logits), one_hot(classes), (2, 3, 4)).mean()
    assert loss_of("dice", logits, classes) == pytest.approx(expected, abs=1e-6)


def test_dice_of_a_class_that_is_absent_is_1_and_of_a_perfect_answer_0():
    logits, classes = logits_and_classes(share=0.0)
    background = soft_dice(softmax(logits), one_hot(classes), (2, 3, 4))[:, 0].mean()
    assert loss_of("dice", logits, classes) == pytest.approx((background + 1) / 2, abs=1e-6)
    _, classes = logits_and_classes()
    assert loss_of("dice", 100 * (one_hot(classes) - 0.5), classes) == pytest.approx(0, abs=1e-6)


def test_cross_entropy_is_the_mean_over_voxels():
    logits, classes = logits_and_classes()
    assert loss_of("cross_entropy", logits, classes) == pytest.approx(cross_entropy(logits, classes))


def test_dice_cross_entropy_adds_the_batchs_dice_and_the_cross_entropy():
    logits, classes = logits_and_classes()
    dice = soft_dice(softmax(logits), one_hot(classes), (0, 2, 3, 4)).mean()
    expected = dice + cross_entropy(logits, classes)
    assert loss_of("dice_cross_entropy", logits, classes) == pytest.approx(expected, abs=1e-5)


def test_dice_focal_adds_the_batchs_dice_and_a_focal_term_per_class():
    logits, classes = logits_and_classes()
    g = one_hot(classes)
    dice = soft_dice(softmax(logits), g, (0, 2, 3, 4)).mean()
    right = 1 / (1 + np.exp(-np.where(g == 1, logits, -logits)))
    focal = (-((1 - right) ** 2) * np.log(right)).mean()
    assert loss_of("dice_focal", logits, classes) == pytest.approx(dice + focal, abs=1e-5)


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_every_loss_falls_along_its_gradient_even_without_any_nucleus(name):
    for share in (0.3, 0.0):
        values, classes = logits_and_classes(share=share)
        logits = torch.tensor(values, requires_grad=True)
        loss = build_loss(name)(logits, torch.tensor(classes))
        loss.backward()
        assert torch.isfinite(logits.grad).all()
        assert (
            loss_of(name, (logits - 0.5 * logits.grad / logits.grad.norm()).detach().numpy(), classes) < loss
        )


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_one_channel_takes_classes_of_any_type_and_is_computed_in_fp32(name):
    logits, classes = torch.randn(2, 1, 8, 8, 8).bfloat16(), torch.randint(2, (2, 1, 8, 8, 8))
    expected = build_loss(name, sigmoid=True)(logits.float(), classes.float())
    for dtype in (torch.uint8, torch.int64, torch.bool):
        loss = build_loss(name, sigmoid=True)(logits, classes.to(dtype))
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected.item(), abs=1e-7)


@pytest.mark.parametrize("balance", [0.0, 0.25, 1.0])
def test_a_balance_weighs_the_focal_loss_against_the_dice(balance):
    logits, classes = torch.randn(2, 1, 3, 4, 5), torch.randint(2, (2, 1, 3, 4, 5))
    focal, dice = (build_loss("dice_focal", sigmoid=True, focal_weight=b)(logits, classes) for b in (1, 0))
    loss = build_loss("dice_focal", sigmoid=True, focal_weight=balance)(logits, classes)
    assert loss.item() == pytest.approx(balance * focal.item() + (1 - balance) * dice.item(), abs=1e-6)
    p, g = logits.sigmoid().double().numpy(), classes.numpy()
    expected = -np.where(g, (1 - p) ** 2 * np.log(p), p**2 * np.log(1 - p)).mean()
    assert focal.item() == pytest.approx(expected, abs=1e-6)
    assert dice.item() == pytest.approx(soft_dice(p, g, (0, 1, 2, 3, 4)), abs=1e-5)
    both = build_loss("dice_focal", sigmoid=True)(logits, classes)
    assert both.item() == pytest.approx(focal.item() + dice.item(), abs=1e-6)


@pytest.mark.parametrize("balance", [-0.1, 1.1])
def test_a_balance_that_is_no_share_is_refused(balance):
    with pytest.raises(ModelError, match=f"expected a focal_weight from 0 to 1, got {balance}"):
        build_loss("dice_focal", focal_weight=balance)


def test_a_mask_and_a_density_have_their_loss():
    assert isinstance(build_loss("joint"), JointLoss)


@pytest.mark.parametrize(
    ("name", "weights", "regularise"),
    [
        ("cellseg3d", True, True),
        ("cellseg3d_no_weights", False, True),
        ("cellseg3d_weighted_dice", True, False),
        ("cellseg3d_dice", False, False),
    ],
)
def test_the_four_losses_of_three_classes_differ_in_two_flags(name, weights, regularise):
    loss = build_loss(name)
    assert isinstance(loss, CellSegLoss)
    assert (loss.weights, loss.regularise, loss.alpha) == (weights, regularise, 0.1)


def test_an_unknown_loss_is_refused_with_the_known_ones():
    with pytest.raises(ModelError, match=", ".join(LOSSES)):
        build_loss("hinge")


def test_the_loss_of_a_pair_is_the_sum_of_its_networks_losses():
    (first, nuclei), (second, centres) = logits_and_classes(0, 0.4), logits_and_classes(1, 0.1)
    target = torch.tensor(nuclei + 2 * centres, dtype=torch.float32)
    both = torch.cat([torch.tensor(first), torch.tensor(second)], dim=1)
    found = QCANetLoss("dice", "dice_focal")(both, target).item()
    assert found == pytest.approx(loss_of("dice", first, nuclei) + loss_of("dice_focal", second, centres))
    with pytest.raises(ModelError, match="expected a loss of"):
        QCANetLoss("dice", "other")


@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_a_half_is_neither_background_nor_foreground(name):
    half = np.full((2, 1, *SHAPE[2:]), 0.5)
    undecided, sure = np.zeros(SHAPE), np.stack([np.zeros(SHAPE[2:]), np.full(SHAPE[2:], 3.0)])[None]
    for other in (np.repeat(sure, 2, 0), np.repeat(-sure, 2, 0)):
        assert loss_of(name, undecided, half) < loss_of(name, other, half)


def test_cross_entropy_is_least_where_the_probability_is_the_fraction():
    fraction = torch.full((1, 1, 2, 2, 2), 0.3, dtype=torch.float64)
    values = torch.linspace(0.1, 0.9, 81)
    for channels in (1, 2):
        losses = []
        for value in values:
            logit = torch.logit(value) * torch.ones_like(fraction)
            logits = logit if channels == 1 else torch.cat([0 * logit, logit], 1)
            losses.append(build_loss("cross_entropy", sigmoid=channels == 1)(logits, fraction))
        assert values[int(torch.stack(losses).argmin())] == pytest.approx(0.3)
