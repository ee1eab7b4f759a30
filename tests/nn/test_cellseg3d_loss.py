"""Loss of three classes against its equations, and the effect of its two flags."""

import math

import numpy as np
import pytest
import torch

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.cellseg3d_loss import CellSegLoss

PLAIN = {"weights": False, "regularise": False}


def logits_of(*probabilities):
    """Logits (1, 3, 1, 1, X) of probabilities of background, membrane, foreground."""
    return torch.tensor(probabilities, dtype=torch.float64).log().T[None, :, None, None]


def target_of(classes, weights):
    return torch.tensor([weights, classes], dtype=torch.float32)[None, :, None, None]


LOGITS = logits_of([0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1])
TARGET = target_of([0, 2, 1], [5, 3, 7])
BACKGROUND = 1 - (2 * 0.5 + 1) / (0.25 + 0.01 + 0.09 + 1 + 1)
MEMBRANE = 1 - (2 * 0.6 + 1) / (0.09 + 0.04 + 0.36 + 1 + 1)


def foreground(weight, q):
    of_others = q(0.2) ** 2 + q(0.1) ** 2
    return 1 - (2 * q(0.7) * weight + 1) / (of_others + q(0.7) ** 2 + 1 + 1)


def same(p):
    return p


def steep(p):
    return p / (p + 0.1)


@pytest.mark.parametrize(
    ("options", "weight", "q"),
    [
        ({}, 3, steep),
        ({"weights": False}, 1, steep),
        ({"regularise": False}, 3, same),
        (PLAIN, 1, same),
        ({"alpha": 0.5}, 3, lambda p: p / (p + 0.5)),
    ],
)
def test_the_loss_is_its_formula_and_only_the_foreground_is_weighted_or_regularised(options, weight, q):
    expected = BACKGROUND + MEMBRANE + foreground(weight, q)
    assert CellSegLoss(**options)(LOGITS, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_the_sums_run_over_the_batch():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], (2, 2, 3, 4)).transpose(0, 4, 1, 2, 3)
    classes, w = rng.integers(0, 3, (2, 2, 3, 4)), rng.uniform(1, 5, (2, 2, 3, 4))
    expected = 0.0
    for index in range(3):
        g = (classes == index).astype(float)
        q = p[:, index] / (p[:, index] + 0.1) if index == 2 else p[:, index]
        weight = w if index == 2 else 1
        expected += 1 - (2 * (q * g * weight).sum() + 1) / ((q**2).sum() + (g**2).sum() + 1)
    target = torch.tensor(np.stack([w, classes], 1))
    assert CellSegLoss()(torch.tensor(np.log(p)), target).item() == pytest.approx(expected, abs=1e-5)


def test_a_perfect_answer_costs_nothing_but_for_what_the_regularisation_keeps():
    logits = 100 * torch.eye(3)[None, :, None, None].float()
    target = target_of([0, 1, 2], [1, 1, 1])
    assert CellSegLoss(**PLAIN)(logits, target).item() == pytest.approx(0, abs=1e-6)
    q = 1 / 1.1
    kept = 1 - (2 * q + 1) / (q**2 + 2)
    assert CellSegLoss()(logits, target).item() == pytest.approx(kept, abs=1e-6)


def test_a_class_that_is_absent_and_not_found_costs_nothing():
    logits = logits_of([1 - 2e-9, 1e-9, 1e-9])
    assert CellSegLoss()(logits, target_of([0], [1])).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"weights": False}, {"regularise": False}, PLAIN])
def test_the_loss_has_finite_gradients_and_falls_along_them_even_without_any_cell(options):
    for classes in (torch.randint(3, (2, 1, 4, 4, 4)), torch.zeros(2, 1, 4, 4, 4)):
        target = torch.cat([torch.full_like(classes, 3.0, dtype=torch.float32), classes.float()], 1)
        logits = torch.randn(2, 3, 4, 4, 4, requires_grad=True)
        loss = CellSegLoss(**options)(logits, target)
        loss.backward()
        assert torch.isfinite(logits.grad).all()
        lower = (logits - 0.1 * logits.grad / logits.grad.norm()).detach()
        assert CellSegLoss(**options)(lower, target) < loss


def test_logits_of_the_extreme_and_of_half_precision_are_taken_in_fp32():
    extreme = torch.tensor([[200.0, -200.0, 0.0]]).T[None, :, None, None].requires_grad_()
    loss = CellSegLoss()(extreme, target_of([2], [1]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(extreme.grad).all()
    half = torch.randn(1, 3, 8, 8, 8).bfloat16()
    target = torch.stack([torch.rand(1, 8, 8, 8), torch.randint(3, (1, 8, 8, 8)).float()], 1)
    loss = CellSegLoss()(half, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(CellSegLoss()(half.float(), target).item(), abs=1e-7)


@pytest.mark.parametrize("alpha", [0.0, -0.1])
def test_an_alpha_that_is_not_above_0_is_refused(alpha):
    with pytest.raises(ModelError, match=f"alpha above 0, got {alpha}"):
        CellSegLoss(alpha=alpha)
