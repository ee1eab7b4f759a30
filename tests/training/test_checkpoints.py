"""Best weights, patience and resuming, with engines that can be checked by hand."""

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.average import Average
from qcanet_monai.nn.optimizers import build_optimizer, build_schedule
from qcanet_monai.training.checkpoints import Checkpoints


class Run:
    """Training of one weight, set to the epoch's number; validations are given."""

    def __init__(self, folder, metrics, *, patience=None, size=1, decay=None):
        self.network = torch.nn.Linear(size, 1, bias=False)
        optimizer = build_optimizer("sgd", self.network.parameters(), learning_rate=1.0)
        schedule = build_schedule("constant", optimizer, steps=10)
        state = SimpleNamespace(epoch=0, metrics={}, key_metric_name="iou")
        self.exported = 0
        self.epochs = []
        self.trainer = Engine(self.step)
        average = None if decay is None else Average(self.network, decay)

        @self.trainer.on(Events.EPOCH_COMPLETED)
        def validate(engine):
            epoch = engine.state.epoch
            self.epochs.append(epoch)
            if metrics[epoch - 1] is not None:
                state.epoch, state.metrics = epoch, {"iou": metrics[epoch - 1]}

        evaluator = SimpleNamespace(state=state)
        Checkpoints(
            folder,
            self.network,
            optimizer,
            schedule,
            evaluator,
            average=average,
            patience=patience,
            export=self.export,
        ).attach(self.trainer)
        self.trainer.state.max_epochs = len(metrics)

    def step(self, engine, _batch):
        torch.nn.init.constant_(self.network.weight, float(engine.state.epoch))

    def export(self):
        self.exported += 1

    def __call__(self):
        self.trainer.run([0], max_epochs=self.trainer.state.max_epochs)
        return self


def best(folder) -> float:
    return float(torch.load(folder / "models/model.pt", weights_only=True)["weight"].flatten()[0])


def test_the_best_validation_is_kept_not_the_last(tmp_path):
    Run(tmp_path, [0.2, 0.9, 0.5])()
    assert best(tmp_path) == 2
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 3


def test_a_resumed_run_does_not_overwrite_better_weights(tmp_path):
    Run(tmp_path, [0.2, 0.9])()
    resumed = Run(tmp_path, [None, None, 0.5, 0.6])()
    assert resumed.epochs == [3, 4]
    assert best(tmp_path) == 2


def test_epochs_without_validation_count_neither_as_better_nor_as_stalled(tmp_path):
    run = Run(tmp_path, [0.5, None, None, None, 0.4], patience=2)()
    assert run.epochs == [1, 2, 3, 4, 5]
    assert best(tmp_path) == 1


def test_patience_ends_the_training_and_lasts_over_a_resume(tmp_path):
    assert Run(tmp_path, [0.5, 0.4, 0.3, 0.9], patience=2)().epochs == [1, 2, 3]
    assert Run(tmp_path, [0.5, 0.4, 0.3, 0.9], patience=2)().epochs == []


def test_a_metric_that_is_nan_is_never_the_best(tmp_path):
    Run(tmp_path, [0.1, float("nan")])()
    assert best(tmp_path) == 1


def test_another_architecture_is_refused_before_anything_is_exported(tmp_path):
    Run(tmp_path, [0.5])()
    other = Run(tmp_path, [0.5, 0.6], size=2)
    with pytest.raises(ModelError, match="another architecture"):
        other()
    assert other.exported == 0


def last(folder) -> dict:
    return torch.load(folder / "last.pt", weights_only=True)


def test_the_best_weights_are_the_averaged_ones_the_last_are_not(tmp_path):
    Run(tmp_path, [0.1, 0.2, 0.3], decay=0.5)()
    assert best(tmp_path) == 2.25  # of 1, 2 and 3: a quarter, a quarter and a half
    assert float(last(tmp_path)["network"]["weight"]) == 3


def test_the_average_is_that_of_the_best_epoch(tmp_path):
    Run(tmp_path, [0.1, 0.9, 0.3], decay=0.5)()
    assert best(tmp_path) == 1.5
    assert list(torch.load(tmp_path / "models/model.pt", weights_only=True)) == ["weight"]


def test_an_average_that_keeps_nothing_leaves_the_networks_own_weights(tmp_path):
    Run(tmp_path, [0.1, 0.2, 0.3], decay=0.0)()
    assert best(tmp_path) == 3
    assert last(tmp_path)["average"] == {}


def test_a_resumed_run_goes_on_with_its_average(tmp_path):
    Run(tmp_path / "whole", [0.1, 0.2, 0.3, 0.4], decay=0.9)()
    Run(tmp_path / "parts", [0.1, 0.2], decay=0.9)()
    assert Run(tmp_path / "parts", [None, None, 0.3, 0.4], decay=0.9)().epochs == [3, 4]
    assert best(tmp_path / "parts") == best(tmp_path / "whole")
    assert best(tmp_path / "parts") == pytest.approx(0.729 * 1 + 0.081 * 2 + 0.09 * 3 + 0.1 * 4)


@pytest.mark.parametrize("key", ["absent", "empty"])
def test_a_checkpoint_without_an_average_is_resumed_and_begins_one(tmp_path, key):
    Run(tmp_path, [0.1, 0.2])()
    state = last(tmp_path)
    if key == "absent":  # as written by versions without averages
        del state["average"]
        torch.save(state, tmp_path / "last.pt")
    resumed = Run(tmp_path, [None, None, 0.3, 0.4], decay=0.5)()
    assert resumed.epochs == [3, 4]
    assert best(tmp_path) == 3.5  # of 3 and 4


def test_a_checkpoint_with_an_average_is_resumed_without_one(tmp_path):
    Run(tmp_path, [0.1, 0.2], decay=0.5)()
    assert Run(tmp_path, [None, None, 0.3])().epochs == [3]
    assert best(tmp_path) == 3
