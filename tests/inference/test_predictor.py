"""Initial weights of a network: from a file, or as built."""

from pathlib import Path

import pytest
import torch

from qcanet_monai.bundle.bundle import SHIPPED, Bundle
from qcanet_monai.errors import ModelError
from qcanet_monai.inference.weights import start_from
from qcanet_monai.nn.unet import UNet3D


def small(seed: int, **options) -> UNet3D:
    torch.manual_seed(seed)
    return UNet3D(**{"depth": 1, "channels": 2, **options})


def copied(network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one, two) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def weights(tmp_path) -> Path:
    torch.save(small(1).state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_a_network_without_a_start_is_left_as_it_is():
    network = small(0)
    before = copied(network)
    assert start_from(network, None) is network
    assert same(network.state_dict(), before)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_network_starts_from_the_weights_of_a_file(weights, kind):
    network = small(0)
    assert not same(network.state_dict(), small(1).state_dict())
    assert start_from(network, kind(weights)) is network
    assert same(network.state_dict(), small(1).state_dict())


def test_a_start_that_is_missing_is_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match=r"expected weights in .*none\.pt, found no such file"):
        start_from(small(0), tmp_path / "none.pt")


def test_a_start_of_another_architecture_is_refused(weights):
    with pytest.raises(ModelError, match=r"model\.pt holds weights of another architecture"):
        start_from(small(0, channels=3), weights)


def test_a_start_that_hides_code_is_refused_unopened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    torch.save({"head.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ModelError, match="safely"):
        start_from(small(0), tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["nsn", "ndn"])
def test_the_shipped_bundles_flip_only_where_asked(name):
    mirrored = [
        len(Bundle(SHIPPED / name).predictor(**options).inferer.inferer.mirrored)
        for options in ({}, {"test_time_augmentation": True}, {"test_time_augmentation": False})
    ]
    assert mirrored == [1, 4, 1]


def test_an_override_of_no_key_is_refused():
    with pytest.raises(ModelError, match="no key mirror to override"):
        Bundle(SHIPPED / "nsn").predictor(mirror=True)
