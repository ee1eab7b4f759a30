"""U-Net family: the paper's parameter counts, sizes, scripting."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.qcanet import QCANet
from qcanet_monai.nn.unet import UNet3D, centre_cropped, count_parameters

NSN = {"depth": 2, "channels": 16, "kernel_size": 3}
NDN = {"depth": 4, "channels": 12, "kernel_size": 5}
BASELINE = {"depth": 3, "channels": 32, "kernel_size": 3}


def on_meta(**parameters):
    with torch.device("meta"):
        return UNet3D(**parameters)


def small(**parameters):
    torch.manual_seed(0)
    return UNet3D(**{"depth": 2, "channels": 2, **parameters}).eval()


@pytest.mark.parametrize(
    ("parameters", "out_channels", "count"),
    [
        (NSN, 2, 1_147_618),
        (NSN, 1, 1_147_585),
        (NDN, 2, 44_450_498),
        (NDN, 1, 44_450_473),
        (BASELINE, 2, 19_073_730),
        (BASELINE, 1, 19_073_665),
    ],
)
def test_networks_have_exactly_the_published_number_of_parameters(parameters, out_channels, count):
    assert count_parameters(on_meta(**parameters, out_channels=out_channels)) == count


@pytest.mark.parametrize(("parameters", "count"), [(NSN, 1_146_896), (NDN, 44_447_940)])
def test_without_convolution_biases_the_count_is_the_papers(parameters, count):
    assert count_parameters(on_meta(**parameters), convolution_biases=False) == count


def test_parameters_that_do_not_train_are_not_counted():
    network = small()
    frozen = sum(p.numel() for p in network.head.parameters())
    everything = count_parameters(network)
    network.head.requires_grad_(False)
    assert count_parameters(network) == everything - frozen


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 2), (2, 1)])
def test_logits_lie_on_the_grid_of_the_image(kernel_size, in_channels, out_channels):
    network = small(kernel_size=kernel_size, in_channels=in_channels, out_channels=out_channels)
    with torch.no_grad():
        logits = network(torch.randn(2, in_channels, 4, 8, 12))
    assert logits.shape == (2, out_channels, 4, 8, 12)


@pytest.mark.parametrize(("depth", "multiple"), [(1, 2), (2, 4), (3, 8)])
def test_edge_lengths_must_be_multiples_of_two_to_the_depth(depth, multiple):
    network = small(depth=depth, channels=1)
    with torch.no_grad():
        assert network(torch.zeros(1, 1, multiple, multiple, 2 * multiple)).shape[4] == 2 * multiple
    for axis in range(3):
        size = [2 * multiple] * 3
        size[axis] += 1
        with pytest.raises(ModelError, match=f"multiples of {multiple}, got"):
            network(torch.zeros(1, 1, *size))


@pytest.mark.parametrize("kernel_size", [0, 2, -1, 3.0, "3"])
def test_a_kernel_that_is_no_odd_number_is_refused(kernel_size):
    with pytest.raises(ModelError, match="odd kernel_size"):
        UNet3D(kernel_size=kernel_size)


@pytest.mark.parametrize("name", ["depth", "channels", "in_channels", "out_channels"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_counts_below_one_are_refused_by_name(name, value):
    with pytest.raises(ModelError, match=f"expected {name} to be a whole number of at least 1"):
        UNet3D(**{name: value})


def test_a_scripted_network_gives_the_same_and_takes_other_shapes():
    network = small()
    scripted = torch.jit.script(network)
    with torch.no_grad():
        for shape in ((8, 8, 8), (4, 12, 16)):
            image = torch.randn(1, 1, *shape)
            assert_close(scripted(image), network(image))


def moved(network):
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return network


def test_without_padding_the_published_patch_gives_the_published_output():
    network = on_meta(padding="valid", out_channels=1)
    logits = network(torch.empty(4, 1, 48, 72, 72, device="meta"))
    assert logits.shape == (4, 1, 8, 32, 32)
    assert network.margin == 20


@pytest.mark.parametrize(("depth", "kernel_size"), [(1, 3), (1, 5), (2, 3), (2, 5), (3, 3), (2, 1)])
def test_without_padding_the_margin_is_what_the_logits_lack_and_other_sizes_are_refused(depth, kernel_size):
    network = on_meta(depth=depth, kernel_size=kernel_size, channels=1, padding="valid").eval()
    fitting = []
    for size in range(1, 150 if kernel_size == 3 else 100):
        try:
            logits = network(torch.empty(1, 1, size, size, size, device="meta"))
        except ModelError:
            continue
        assert logits.shape[2:] == (size - 2 * network.margin,) * 3
        fitting.append(size)
    step = 2**depth
    assert fitting == list(range(fitting[0], fitting[-1] + 1, step))
    # the next smaller size would leave nothing
    assert 1 <= fitting[0] - 2 * network.margin <= step
    assert len(fitting) > 3


def test_a_size_that_does_not_fit_without_padding_is_refused_with_those_that_do():
    network = on_meta(channels=1, padding="valid")
    for size in ((44, 44, 43), (40, 44, 48)):
        with pytest.raises(ModelError, match="44, 48, 52 voxels and so on in steps of 4"):
            network(torch.empty(1, 1, *size, device="meta"))


@pytest.mark.parametrize(("depth", "kernel_size"), [(1, 3), (1, 5), (2, 3)])
@torch.inference_mode()
def test_without_padding_the_logits_are_those_inside_a_padded_volume(depth, kernel_size):
    network = moved(small(depth=depth, kernel_size=kernel_size))
    valid = small(depth=depth, kernel_size=kernel_size, padding="valid")
    valid.load_state_dict(network.state_dict())
    step, lost = 2**depth, 2 * (kernel_size - 1)
    # poolings of both must begin at the same voxels
    start = -(lost // 2 * (step - 1)) % step
    size = 2 * valid.margin + (lost % step or step)
    whole = torch.randn(1, 1, *[-(-(start + size) // step) * step] * 3)
    seen = slice(start, start + size)
    inside = slice(start + valid.margin, start + size - valid.margin)
    logits = valid(whole[..., seen, seen, seen])
    assert logits.shape[2] == size - 2 * valid.margin > 0
    assert_close(logits, network(whole)[..., inside, inside, inside], atol=1e-5, rtol=1e-4)


def test_a_scripted_network_without_padding_gives_the_same():
    network = small(depth=1, padding="valid")
    scripted = torch.jit.script(network)
    with torch.no_grad():
        for shape in ((18, 18, 20), (22, 20, 18)):
            image = torch.randn(1, 1, *shape)
            assert_close(scripted(image), network(image))


def test_the_centre_is_cropped_and_the_end_loses_the_odd_voxel():
    features = torch.arange(7.0).expand(1, 2, 7, 7, 7)
    assert centre_cropped(features, torch.empty(1, 9, 7, 1, 4)).shape == (1, 2, 7, 1, 4)
    assert centre_cropped(features, torch.empty(1, 1, 1, 1, 4))[0, 0, 0, 0].tolist() == [1, 2, 3, 4]
    assert torch.equal(centre_cropped(features, features), features)


def test_dropout_stands_after_every_two_convolutions_but_the_last_and_names_nothing_anew():
    network = small(dropout=0.25)
    dropping = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout3d)]
    assert dropping == ["encoder.0.6", "encoder.1.6", "encoder.2.6", "decoder.0.6"]
    assert network.state_dict().keys() == small().state_dict().keys()
    assert {network.get_submodule(name).p for name in dropping} == {0.25}


@torch.no_grad()
def test_dropout_changes_what_a_learning_network_gives_and_nothing_in_evaluation():
    network, image = small(dropout=0.5, channels=4), torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(network(image), small(channels=4)(image))
    for module in network.modules():
        if isinstance(module, nn.Dropout3d):
            module.train()
    assert not torch.allclose(network(image), network(image))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "full"}, "padding of same, valid, got 'full'"),
        ({"dropout": 1.0}, "dropout of at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout of at least 0 and below 1, got -0.1"),
    ],
)
def test_a_padding_or_dropout_that_is_none_is_refused(options, message):
    with pytest.raises(ModelError, match=message):
        UNet3D(**options)


def test_convolutions_begin_he_normal_with_zero_biases():
    torch.manual_seed(0)
    convolutions = [m for m in UNet3D(channels=8).modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    assert len(convolutions) == 13  # 6 to encode, 2 transposed, 4 to decode, the head
    for convolution in convolutions:
        assert not convolution.bias.any()
        weight = convolution.weight
        fan_in = weight[0].numel()  # torch takes the second axis for the inputs, transposed or not
        if weight.numel() > 5000:
            assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
            assert abs(weight.mean().item()) < 0.05 * weight.std().item()


def test_the_same_random_state_gives_the_same_weights():
    one, two = small().state_dict(), small().state_dict()
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name])


def test_every_parameter_takes_part_in_the_output():
    network = small(channels=3).train()
    network(torch.randn(2, 1, 8, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    kernels = [p for p in network.parameters() if p.dim() == 5]
    assert all(p.grad.any() for p in kernels)


def test_qcanet_puts_nsns_channels_before_ndns():
    nsn, ndn = small(depth=1), small(depth=2, kernel_size=5)
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        both = QCANet(nsn, ndn)(image)
        assert both.shape == (1, 4, 8, 8, 8)
        assert_close(both[:, :2], nsn(image))
        assert_close(both[:, 2:], ndn(image))
