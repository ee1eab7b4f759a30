"""Optimisers receive their settings; schedules follow their curve."""

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
        schedule_of("cosine", steps=10)


def test_a_constant_schedule_keeps_the_learning_rate():
    assert rates(schedule_of("constant", steps=3), 6) == [0.5] * 6


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_the_floor_where_it_stays():
    used = rates(schedule_of(steps=100, warmup=0.2, floor=0.1), 130)
    assert used[:20] == pytest.approx([0.5 * (i + 1) / 20 for i in range(20)])
    assert max(used) == used[19] == 0.5
    assert all(a >= b for a, b in pairwise(used[19:]))
    assert used[60] == pytest.approx(0.5 * (0.1 + 0.9 / 2))  # half-way down
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


def test_steps_divide_by_10_every_so_many_epochs():
    used = rates(schedule_of("steps", steps=12, epochs=6, every=2), 14)  # 2 steps each
    assert used == pytest.approx([0.5] * 4 + [0.05] * 4 + [0.005] * 4 + [0.0005] * 2)


def test_steps_are_the_same_for_a_longer_training():
    short = rates(schedule_of("steps", steps=35 * 7, epochs=35), 35 * 7)
    longer = rates(schedule_of("steps", steps=99 * 7, epochs=99), 35 * 7)
    assert short == longer
    assert short[69:71] == pytest.approx([0.5, 0.05])


@pytest.mark.parametrize("options", [{}, {"epochs": 0}, {"epochs": 5, "every": 0}])
def test_steps_without_epochs_are_refused(options):
    with pytest.raises(ModelError, match="expected epochs and every of at least 1"):
        schedule_of("steps", steps=10, **options)


def test_a_plateau_of_the_metric_lowers_the_rate_to_the_lowest():
    schedule = schedule_of("plateau", steps=10, factor=0.1, patience=2, lowest=0.01)
    used = []
    for metric in (0.5, 0.6, 0.6, 0.1, 0.6, 0.7, 0.8, *[0.8] * 6):
        schedule.step(metric)
        used.append(schedule.optimizer.param_groups[0]["lr"])
    assert used == pytest.approx([0.5] * 4 + [0.05] * 5 + [0.01] * 4)


def test_a_rising_metric_keeps_the_rate():
    schedule = schedule_of("plateau", steps=10, patience=1)
    for metric in range(10):
        schedule.step(metric)
    assert schedule.optimizer.param_groups[0]["lr"] == 0.5


def test_a_resumed_plateau_remembers_how_long_it_has_waited():
    first, second = (schedule_of("plateau", steps=10, patience=2) for _ in range(2))
    for _ in range(3):
        first.step(0.5)
    second.load_state_dict(first.state_dict())
    second.step(0.5)
    assert second.optimizer.param_groups[0]["lr"] == 0.25
