"""Joint network and its baseline of two networks: outputs and gradients."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.joint import DETECTORS, JointNet, SeparateNets, build_joint
from qcanet_monai.nn.unet import UNet3D, centre_cropped, count_parameters

NETWORKS = (JointNet, SeparateNets)


def small(kind=JointNet, **options):
    """Make a network with a non-zero density."""
    torch.manual_seed(0)
    network = kind(**{"depth": 1, "channels": 2, **options})
    nn.init.normal_(last(network).weight)
    return network


def last(network):
    return [module for module in network.detector.modules() if isinstance(module, nn.Conv3d)][-1]


def has_gradient(network):
    return [p.grad is not None and bool(p.grad.any()) for p in network.parameters()]


def test_the_joint_network_has_a_unet_and_a_small_detector():
    unet = 1_147_585  # U-Net of one logit, see test_unet
    detector = (2 * 27 + 1) * 16 + 2 * (16 * 27 + 1) * 16 + 3 * 2 * 16 + 17
    with torch.device("meta"):
        assert count_parameters(JointNet()) == unet + detector == 1_162_434
        assert count_parameters(SeparateNets()) == 2 * unet


@pytest.mark.parametrize("kind", NETWORKS)
@torch.inference_mode()
def test_mask_and_density_lie_on_the_grid_of_the_image(kind):
    network = small(kind, in_channels=2, depth=2).eval()
    assert network(torch.randn(2, 2, 4, 8, 12)).shape == (2, 2, 4, 8, 12)
    assert (network.depth, network.margin) == (2, 0)


@pytest.mark.parametrize("kind", NETWORKS)
@torch.inference_mode()
def test_without_padding_both_lack_the_margin(kind):
    network = small(kind, depth=2, channels=1, padding="valid").eval()
    assert network.margin == 20
    assert network(torch.randn(1, 1, 44, 48, 52)).shape == (1, 2, 4, 8, 12)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_size_that_no_unet_takes_is_refused(kind):
    with pytest.raises(ModelError, match="multiples of 4"):
        small(kind, depth=2)(torch.zeros(1, 1, 8, 8, 6))


@pytest.mark.parametrize("padding", ["same", "valid"])
@torch.inference_mode()
def test_the_detector_sees_the_mask_and_the_image_where_the_mask_is(padding):
    network = small(padding=padding).eval()
    image = torch.randn(1, 1, 18, 20, 22)
    outputs = network(image)
    mask = network.segmenter(image)
    assert_close(outputs[:, :1], mask)
    seen = torch.cat([mask.sigmoid(), centre_cropped(image, mask)], 1)
    assert_close(outputs[:, 1:], network.detector(seen))


@pytest.mark.parametrize("padding", ["same", "valid"])
@torch.inference_mode()
def test_the_detector_may_see_what_the_mask_is_made_of(padding):
    network = small(detector="features", padding=padding).eval()
    image = torch.randn(1, 1, 18, 20, 22)
    outputs = network(image)
    features = network.segmenter.features(image)
    mask = network.segmenter.head(features)
    assert_close(outputs[:, :1], mask)
    seen = torch.cat([mask.sigmoid(), centre_cropped(image, mask), features], 1)
    assert_close(outputs[:, 1:], network.detector(seen))


def test_with_features_the_densitys_error_reaches_the_unet_though_the_mask_is_certain():
    network = small(detector="features").train()
    nn.init.constant_(network.segmenter.head.bias, 100)  # a saturated sigmoid has no gradient
    network(torch.randn(2, 1, 8, 8, 8))[:, 1].square().sum().backward()
    assert any(has_gradient(network.segmenter.encoder))
    network.zero_grad()
    network.detector[0].weight.data[:, 2:] = 0
    network(torch.randn(2, 1, 8, 8, 8))[:, 1].square().sum().backward()
    assert not any(has_gradient(network.segmenter.encoder))


def test_the_densitys_error_teaches_the_unet_too():
    network = small(channels=4, detector_channels=4).train()
    network(torch.randn(2, 1, 8, 8, 8))[:, 1].square().sum().backward()
    kernels = [p for p in network.segmenter.parameters() if p.dim() == 5]
    assert kernels
    assert all(p.grad is not None and p.grad.any() for p in kernels)
    assert all(p.grad.any() for p in network.detector.parameters() if p.dim() == 5)


def test_the_masks_error_leaves_the_detector_alone():
    network = small().train()
    network(torch.randn(2, 1, 8, 8, 8))[:, 0].square().sum().backward()
    assert not any(has_gradient(network.detector))
    assert any(has_gradient(network.segmenter))


def test_of_two_networks_neither_hears_of_the_others_error():
    for channel, deaf in enumerate(("detector", "segmenter")):
        network = small(SeparateNets).train()
        network(torch.randn(2, 1, 8, 8, 8))[:, channel].square().sum().backward()
        assert not any(has_gradient(network.get_submodule(deaf)))
        assert any(has_gradient(network))


@torch.inference_mode()
def test_the_two_networks_are_their_unets():
    network = small(SeparateNets).eval()
    assert isinstance(network.segmenter, UNet3D)
    image = torch.randn(1, 1, 4, 6, 8)
    outputs = network(image)
    assert_close(outputs[:, :1], network.segmenter(image))
    assert_close(outputs[:, 1:], network.detector(image))
    assert not torch.allclose(outputs[:, 0], outputs[:, 1])


@torch.inference_mode()
def test_the_density_is_linear_in_its_last_weights_and_cut_off_nowhere():
    network, image = small().eval(), torch.randn(1, 1, 8, 8, 8)
    density = network(image)[:, 1]
    last(network).weight.neg_()  # the bias starts at 0
    assert_close(network(image)[:, 1], -density)
    assert density.all()


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_density_begins_at_0_and_learns_from_the_first_step_on(kind):
    network = kind(depth=1, channels=2)
    outputs = network(torch.randn(2, 1, 8, 8, 8))
    assert not outputs[:, 1].any()
    assert outputs[:, 0].any()
    (outputs[:, 1] - 1).square().sum().backward()
    assert last(network).weight.grad.all()


def test_dropout_lies_in_the_unet_and_after_the_detectors_first_two_convolutions():
    network = small(depth=2, dropout=0.5)
    dropping = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout3d)]
    assert [name for name in dropping if name.startswith("detector")] == ["detector.3", "detector.7"]
    assert len([name for name in dropping if name.startswith("segmenter")]) == 4
    assert not any(isinstance(module, nn.Dropout3d) for module in small().modules())


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kind", NETWORKS)
@torch.inference_mode()
def test_a_scripted_network_gives_the_same(kind, padding):
    network = small(kind, padding=padding).eval()
    image = torch.randn(1, 1, 18, 20, 22)
    assert_close(torch.jit.script(network)(image), network(image))


def test_a_count_below_one_is_refused_by_name():
    with pytest.raises(ModelError, match="expected detector_channels to be"):
        JointNet(detector_channels=0)
    with pytest.raises(ModelError, match="expected channels to be"):
        SeparateNets(channels=0)


def with_unet(**options):
    return small(detector="unet", **options)


@pytest.mark.parametrize(
    ("padding", "size", "lost"), [("same", (4, 8, 12), 0), ("valid", (44, 48, 52), 2 * 20)]
)
@torch.inference_mode()
def test_a_second_unet_finds_the_centres_on_the_masks_grid(padding, size, lost):
    network = with_unet(in_channels=2, depth=2, channels=1, padding=padding).eval()
    assert isinstance(network.detector, UNet3D)
    assert (network.depth, network.margin, network.detector.margin) == (2, lost // 2, 0)
    image = torch.randn(1, 2, *size)
    outputs, mask = network(image), network.segmenter(image)
    assert outputs.shape == (1, 2, *(n - lost for n in size))
    assert_close(outputs[:, :1], mask)
    seen = torch.cat([mask.sigmoid(), centre_cropped(image, mask)], 1)
    assert_close(outputs[:, 1:], network.detector(seen))


def test_with_a_second_unet_the_densitys_error_teaches_the_first_one_too():
    network = with_unet(channels=4).train()
    network(torch.randn(2, 1, 8, 8, 8))[:, 1].square().sum().backward()
    for part in (network.segmenter, network.detector):
        kernels = [p for p in part.parameters() if p.dim() == 5]
        assert all(p.grad is not None and p.grad.any() for p in kernels)


def test_the_second_unets_density_begins_at_0_and_learns_from_the_first_step_on():
    network = JointNet(depth=1, channels=2, detector="unet")
    outputs = network(torch.randn(2, 1, 8, 8, 8))
    assert not outputs[:, 1].any()
    (outputs[:, 1] - 1).square().sum().backward()
    assert network.detector.head.weight.grad.all()


def test_the_second_unet_is_as_large_as_the_first_but_for_what_it_sees():
    with torch.device("meta"):
        network = JointNet(detector="unet", dropout=0.5)
    first, second = (count_parameters(part) for part in (network.segmenter, network.detector))
    assert second - first == 27 * 16  # weights for the mask in the first convolution
    dropping = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout3d)]
    assert len([name for name in dropping if name.startswith("detector")]) == len(dropping) / 2 == 4


@torch.inference_mode()
def test_a_scripted_network_of_two_unets_gives_the_same():
    network = with_unet().eval()
    image = torch.randn(1, 1, 4, 6, 8)
    assert_close(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize("detector", DETECTORS)
@torch.inference_mode()
def test_a_network_is_built_by_its_detectors_name(detector):
    network = build_joint(
        detector, detector_channels=3, in_channels=2, depth=1, channels=2, kernel_size=1, dropout=0.5
    ).eval()
    assert isinstance(network, SeparateNets if detector == "separate" else JointNet)
    assert isinstance(network.detector, nn.Sequential if detector in ("features", "cnn") else UNet3D)
    assert network(torch.randn(1, 2, 4, 6, 8)).shape == (1, 2, 4, 6, 8)
    assert (network.depth, network.margin) == (1, 0)
    assert network.segmenter.kernel_size == 1
    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout3d)} == {0.5}
    if detector == "cnn":
        assert last(network).in_channels == 3


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_allows_a_network_without_padding(detector):
    network = build_joint(detector, depth=1, channels=1, padding="valid")
    assert network.margin == 8


def test_the_detector_is_the_small_one_unless_another_is_asked_for():
    assert isinstance(build_joint(depth=1, channels=1).detector, nn.Sequential)


def test_an_unknown_detector_is_refused_with_the_known_ones():
    with pytest.raises(ModelError, match="expected a detector of features, cnn, unet, separate, got 'gauss'"):
        build_joint("gauss")
