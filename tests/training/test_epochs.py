"""Values reported after each epoch and passed to schedules at each step."""

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler

from qcanet_monai.nn.optimizers import build_optimizer, build_schedule
from qcanet_monai.training.epochs import EpochValues, StepArguments


def evaluator(**metrics):
    return SimpleNamespace(state=SimpleNamespace(epoch=0, key_metric_name="iou", metrics=metrics))


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "steps"])
def test_other_schedules_are_told_nothing(schedule):
    assert StepArguments(schedule, evaluator(iou=0.5))(Engine(lambda *_: None)) == ()


def test_a_plateau_is_told_the_key_metric_as_it_is_at_that_step():
    one = evaluator()
    arguments = StepArguments("plateau", one)
    trainer = Engine(lambda *_: None)
    assert arguments(trainer) == (0.0,)  # not yet validated
    one.state.metrics = {"dice": 0.9, "iou": torch.tensor(0.25)}
    assert arguments(trainer) == (0.25,)
    assert type(arguments(trainer)[0]) is float
    one.state.metrics["iou"] = 0.75
    assert arguments(trainer) == (0.75,)


def test_without_a_key_metric_a_plateau_is_told_0():
    one = evaluator(iou=0.5)
    one.state.key_metric_name = None
    assert StepArguments("plateau", one)(Engine(lambda *_: None)) == (0.0,)


def run(schedule, scores):
    """Return the learning rates after each epoch of a training with given scores."""
    weight = torch.nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer("sgd", weight.parameters(), learning_rate=1.0)
    scheduler = build_schedule(schedule, optimizer, steps=2 * len(scores), epochs=len(scores))
    trainer, one, rates = Engine(lambda *_: optimizer.step()), evaluator(), []

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        one.state.metrics = {"iou": scores[engine.state.epoch - 1]}

    LrScheduleHandler(
        scheduler,
        print_lr=False,
        epoch_level=schedule == "plateau",
        step_transform=StepArguments(schedule, one),
    ).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: rates.append(optimizer.param_groups[0]["lr"]))
    trainer.run([0, 1], max_epochs=len(scores))
    return rates


def test_a_training_slows_down_where_its_metric_no_longer_grows():
    growing = run("plateau", [epoch / 100 for epoch in range(1, 41)])
    still = run("plateau", [0.5] * 40)
    assert set(growing) == {1.0}
    assert still[0] == 1.0
    assert still[-1] < 1.0


def test_a_constant_rate_stays_through_the_same_handler():
    assert run("constant", [0.5] * 4) == [1.0] * 4


def test_an_epoch_tells_its_mean_loss_its_rate_and_its_own_validation_alone():
    one = evaluator()
    losses, told = iter([1.0, 3.0, 5.0, 7.0]), []
    trainer = Engine(lambda *_: [{"loss": next(losses)}])
    trainer.optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    values = EpochValues(one)
    values.attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED)
    def tell(engine):
        if engine.state.epoch == 1:
            one.state.epoch, one.state.metrics = 1, {"iou": 0.5}
        told.append(values(engine))

    trainer.run([0, 1], max_epochs=2)
    assert told == [
        {"loss": 2.0, "learning_rate": 0.1, "validation_iou": 0.5},
        {"loss": 6.0, "learning_rate": 0.1},
    ]
