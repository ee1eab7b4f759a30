"""Best weights, patience and resuming, with engines small enough to follow by hand."""

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.optimizers import build_optimizer, build_schedule
from qcanet_monai.workflows.checkpoints import Checkpoints


class Run:
    """A training of one weight that an epoch sets to its number; its validations are given."""

    def __init__(self, folder, metrics, *, patience=None, size=1):
        self.network = torch.nn.Linear(size, 1, bias=False)
        optimizer = build_optimizer("sgd", self.network.parameters(), learning_rate=1.0)
        schedule = build_schedule("constant", optimizer, steps=10)
        state = SimpleNamespace(epoch=0, metrics={}, key_metric_name="iou")
        self.exported = 0
        self.epochs = []
        self.trainer = Engine(lambda _engine, _batch: None)

        @self.trainer.on(Events.EPOCH_COMPLETED)
        def validate(engine):
            epoch = engine.state.epoch
            self.epochs.append(epoch)
            torch.nn.init.constant_(self.network.weight, float(epoch))
            if metrics[epoch - 1] is not None:
                state.epoch, state.metrics = epoch, {"iou": metrics[epoch - 1]}

        evaluator = SimpleNamespace(state=state)
        Checkpoints(
            folder, self.network, optimizer, schedule, evaluator, patience=patience, export=self.export
        ).attach(self.trainer)
        self.trainer.state.max_epochs = len(metrics)

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
