"""Updated batch statistics are those without dropout; nothing else changes."""

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from qcanet_monai.nn.average import Average
from qcanet_monai.nn.batch_statistics import UpdateBatchNorm

BATCHES = [
    {"image": torch.randn(4, 2, 3, 3, 3, generator=torch.Generator().manual_seed(seed))} for seed in range(5)
]


def network(dropout: float) -> nn.Sequential:
    layers = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.BatchNorm3d(2, momentum=0.5))


def epochs(handler, number=1):
    engine = Engine(lambda _engine, _batch: None)
    handler.attach(engine)
    engine.run([0], max_epochs=number)


def mean_of(batches):
    return torch.stack([batch["image"].mean((0, 2, 3, 4)) for batch in batches]).mean(0)


def variance_of(batches):
    return torch.stack([batch["image"].var((0, 2, 3, 4)) for batch in batches]).mean(0)


@pytest.mark.parametrize("number", [3, 60])
def test_the_statistics_are_those_of_the_first_batches_without_dropout(number):
    trained = network(0.5)
    epochs(UpdateBatchNorm(trained, BATCHES, number))
    torch.testing.assert_close(trained[-1].running_mean, mean_of(BATCHES[:number]))
    torch.testing.assert_close(trained[-1].running_var, variance_of(BATCHES[:number]))


def test_weights_mode_share_and_momentum_stay():
    trained = network(0.5)
    before = [parameter.clone() for parameter in trained.parameters()]
    for training in (True, False):
        trained.train(training)
        epochs(UpdateBatchNorm(trained, BATCHES, 60))
        assert trained.training is training
    assert trained[0].p == 0.5
    assert trained[-1].momentum == 0.5
    assert all(torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))


def test_the_share_comes_back_after_a_batch_that_fails():
    trained = network(0.5)
    with pytest.raises(RuntimeError):
        epochs(UpdateBatchNorm(trained, [{"image": torch.zeros(1, 3, 2, 2, 2)}], 60))
    assert trained[0].p == 0.5


@pytest.mark.parametrize(("dropout", "batches"), [(0.0, 60), (0.5, 0)])
def test_without_dropout_or_batches_the_statistics_are_left_alone(dropout, batches):
    trained = network(dropout)
    epochs(UpdateBatchNorm(trained, BATCHES, batches))
    assert torch.equal(trained[-1].running_mean, torch.zeros(2))


@pytest.mark.parametrize(("number", "taken"), [(1, False), (2, True), (3, True)])
def test_they_are_taken_as_often_as_one_validates(number, taken):
    trained = network(0.5)
    epochs(UpdateBatchNorm(trained, BATCHES, 60, interval=2), number)
    assert bool(trained[-1].running_mean.any()) is taken


def test_of_an_average_the_averaged_network_gets_them():
    trained = network(0.5)
    average = Average(trained, 0.9)
    epochs(UpdateBatchNorm(average.network, BATCHES, 60))
    torch.testing.assert_close(average.network[-1].running_mean, mean_of(BATCHES))
    assert torch.equal(trained[-1].running_mean, torch.zeros(2))
