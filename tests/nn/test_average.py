"""Weight averages against the sum that defines them."""

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.average import Average, bare


def train(network, average, values):
    """Train in steps that set all parameters and running means to one value each."""

    def step(_engine, value):
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.fill_(value)

    engine = Engine(step)
    average.attach(engine)
    engine.run(values)


def closed_form(values, decay):
    k = len(values)
    later = sum((1 - decay) * decay ** (k - 1 - i) * values[i] for i in range(1, k))
    return decay ** (k - 1) * values[0] + later


def one_parameter() -> nn.Linear:
    return nn.Linear(1, 1, bias=False)


def weight(network) -> float:
    return float(network.weight.detach().squeeze())


def test_without_a_decay_the_network_itself_is_the_average():
    network = one_parameter()
    average = Average(network)
    train(network, average, [3.0, 5.0])
    assert average.network is network
    assert weight(average.network) == 5
    assert average.state_dict() == {}
    average.load_state_dict({"module.weight": torch.zeros(1, 1)})
    assert weight(network) == 5


@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize("values", [[3.0], [3.0, 5.0], [3.0, 5.0, -1.0, 4.0, 10.0]])
def test_the_average_is_its_closed_form(decay, values):
    network = one_parameter()
    average = Average(network, decay)
    train(network, average, values)
    assert weight(average.network) == pytest.approx(closed_form(values, decay))
    assert weight(network) == values[-1]  # the trained network stays unchanged


def test_the_averaged_network_is_one_of_its_own():
    network = one_parameter()
    average = Average(network, 0.5)
    assert type(average.network) is nn.Linear
    assert average.network is not network
    before = weight(average.network)
    nn.init.constant_(network.weight, before + 1)
    assert weight(average.network) == before


def test_batch_statistics_are_averaged_too():
    network = nn.BatchNorm1d(2)
    average = Average(network, 0.75)
    values = [4.0, 8.0, 0.0]
    train(network, average, values)
    expected = torch.full((2,), closed_form(values, 0.75))
    for name in ("running_mean", "running_var", "weight", "bias"):
        assert torch.allclose(getattr(average.network, name), expected), name
    assert average.network.running_mean.dtype == torch.float32


def test_an_average_that_was_kept_goes_on_as_if_never_stopped(tmp_path):
    whole, part, resumed = (one_parameter() for _ in range(3))
    values = [3.0, 5.0, -1.0, 4.0]
    expected, first, second = (Average(network, 0.9) for network in (whole, part, resumed))
    train(whole, expected, values)
    train(part, first, values[:2])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert weight(second.network) == weight(first.network)
    train(resumed, second, values[2:])
    assert weight(second.network) == weight(expected.network)


def test_a_checkpoint_without_an_average_begins_it_with_the_networks_weights():
    network = one_parameter()
    average = Average(network, 0.9)
    nn.init.constant_(network.weight, 7.0)
    average.load_state_dict({})
    assert weight(average.network) == 7
    train(network, average, [3.0, 5.0])
    assert weight(average.network) == pytest.approx(closed_form([3.0, 5.0], 0.9))


@pytest.mark.parametrize("decay", [1.0, -0.1, 2, float("nan")])
def test_a_decay_that_keeps_all_or_less_than_nothing_is_refused(decay):
    with pytest.raises(ModelError, match=rf"at least 0 and below 1, got {decay}"):
        Average(one_parameter(), decay)


def test_a_network_without_a_wrapper_is_bare():
    network = one_parameter()
    assert bare(network) is network
