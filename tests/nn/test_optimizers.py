"""Optimisers get their knobs; schedules keep their curve."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.optimizers import OPTIMIZERS, SCHEDULES, build_optimizer, build_schedule


def parameter():
    return [nn.Parameter(torch.zeros(1))]


def rates(schedule, steps):
    """Learning rates that the next `steps` optimiser steps use."""
    used = []
    for _ in range(steps):
        used.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return used


def schedule_of(name="one_cycle", learning_rate=0.5, **options):
    return build_schedule(name, build_optimizer("sgd", parameter(), learning_rate=learning_rate), **options)


def test_sgd_gets_its_parameters():
    optimizer = build_optimizer("sgd", parameter(), learning_rate=1.0, weight_decay=9e-5, momentum=0.9)
    assert type(optimizer) is SGD
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["momentum"]) == (1.0, 9e-5, 0.9)


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW)])
def test_adam_and_adamw_get_their_parameters_also_as_lists(name, kind):
    optimizer = build_optimizer(
        name, parameter(), learning_rate=0.08, weight_decay=6e-6, betas=[0.91, 0.99], eps=0.07
    )
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["eps"]) == (0.08, 6e-6, 0.07)
    assert group["betas"] == (0.91, 0.99)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ModelError, match=", ".join(OPTIMIZERS)):
        build_optimizer("lion", parameter(), learning_rate=1.0)
    with pytest.raises(ModelError, match=", ".join(SCHEDULES)):
        schedule_of("step", steps=10)


def test_a_constant_schedule_keeps_the_learning_rate():
    assert rates(schedule_of("constant", steps=3), 6) == [0.5] * 6


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_the_floor_where_it_stays():
    used = rates(schedule_of(steps=100, warmup=0.2, floor=0.1), 130)
    assert used[:20] == pytest.approx([0.5 * (i + 1) / 20 for i in range(20)])
    assert max(used) == used[19] == 0.5
    assert all(a >= b for a, b in pairwise(used[19:]))
    assert used[60] == pytest.approx(0.5 * (0.1 + 0.9 / 2))  # half of the way down
    assert used[100:] == pytest.approx([0.05] * 30)
    assert used[99] == pytest.approx(0.05, rel=0.01)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.1), (5, 0.0), (5, 1.0)])
def test_one_cycle_of_few_steps_never_leaves_its_range(steps, warmup):
    used = rates(schedule_of(steps=steps, warmup=warmup), 10)
    assert max(used) == 0.5
    assert used[-1] == pytest.approx(0.005)
    assert min(used) >= 0.005


def test_a_resumed_schedule_with_more_steps_continues_on_the_longer_curve():
    first = schedule_of(steps=40)
    rates(first, 30)
    longer = schedule_of(steps=200)
    whole = rates(schedule_of(steps=200), 60)
    longer.load_state_dict(first.state_dict())
    longer.optimizer.load_state_dict(first.optimizer.state_dict())
    longer.optimizer.step()
    longer.step()
    assert rates(longer, 29) == pytest.approx(whole[31:])
