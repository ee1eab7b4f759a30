"""Fused and tiled networks compute the same function."""

import copy

import pytest
import torch

from qcanet_monai.nn import tiled_forward as pieces
from qcanet_monai.nn.fusion import for_inference, fuse_batch_norm, with_one_logit
from qcanet_monai.nn.tiled_forward import tiled_forward
from qcanet_monai.nn.unet import UNet3D


def trained(**options) -> UNet3D:
    """Make a network whose batch norms have non-trivial statistics."""
    torch.manual_seed(0)
    network = UNet3D(**{"depth": 2, "channels": 2, **options})
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
    return network.eval()


@pytest.mark.parametrize("options", [{}, {"depth": 1, "kernel_size": 1}, {"depth": 3, "kernel_size": 5}])
@pytest.mark.parametrize("voxels", [8, 300, 10**6])
@torch.inference_mode()
def test_pieces_give_what_one_pass_gives(options, voxels):
    network = trained(**options)
    image = torch.rand(1, 1, 8, 16, 24)
    assert torch.allclose(tiled_forward(network, image, voxels), network(image), atol=1e-5)
    fast = for_inference(network)
    assert torch.allclose(tiled_forward(fast, image, voxels), fast(image), atol=1e-5)


@torch.inference_mode()
def test_a_piece_without_its_margin_differs_at_its_seams_only(monkeypatch):
    network = trained(depth=1)
    image = torch.rand(1, 1, 16, 16, 32)
    monkeypatch.setattr(pieces, "_boxes", lambda size, _voxels: halves(size))
    whole = network(image)
    assert torch.allclose(tiled_forward(network, image, 0), whole, atol=1e-5)
    monkeypatch.setattr(pieces, "_grown", lambda box, _margin, _size: box)
    wrong = ((tiled_forward(network, image, 0) - whole).abs() > 1e-3).any(1).any(0)
    assert wrong[..., 15:17].float().mean() > 0.9
    # errors reach as far as four convolutions of three voxels and one between halved voxels
    assert not wrong[..., :8].any()
    assert not wrong[..., 24:].any()


def halves(size):
    middle = size[2] // 2
    return (
        (slice(None), slice(None), slice(0, size[0]), slice(0, size[1]), x)
        for x in (slice(0, middle), slice(middle, size[2]))
    )


def test_a_network_that_learns_does_not_go_in_pieces():
    with pytest.raises(AssertionError):
        tiled_forward(trained().train(), torch.rand(1, 1, 8, 8, 8), 100)


@torch.inference_mode()
def test_folded_batch_norms_leave_the_function():
    network, image = trained(), torch.rand(1, 1, 8, 12, 16)
    fold = fuse_batch_norm(copy.deepcopy(network))
    assert not any(isinstance(module, torch.nn.BatchNorm3d) for module in fold.modules())
    assert torch.allclose(fold(image), network(image), atol=1e-4)


@torch.inference_mode()
def test_one_logit_is_the_log_odds_of_two():
    network, image = trained(), torch.rand(1, 1, 8, 12, 16)
    wanted = network(image).softmax(1)[:, 1:]
    assert torch.allclose(with_one_logit(network)(image).sigmoid(), wanted, atol=1e-5)


@torch.inference_mode()
def test_a_network_of_one_logit_and_a_foreign_one_stay_as_they_are():
    network, foreign = trained(out_channels=1), torch.nn.Conv3d(1, 2, 1)
    assert with_one_logit(network).head.out_channels == 1
    assert with_one_logit(foreign) is foreign
    assert foreign.out_channels == 2


@pytest.mark.parametrize("options", [{}, {"depth": 1, "kernel_size": 1}, {"depth": 3, "kernel_size": 5}])
@pytest.mark.parametrize("size", [(8, 8, 8), (16, 24, 40)])
@torch.inference_mode()
def test_a_network_for_inference_gives_the_same_odds(options, size):
    network, image = trained(**options), torch.rand(2, 1, *size)
    for module in network.modules():
        if isinstance(module, torch.nn.ConvTranspose3d):
            module.bias.normal_()  # absent outside the volume
    wanted = network(image).softmax(1)[:, 1:]
    fast = for_inference(network)
    assert not [name for name, _ in fast.named_parameters() if name.startswith("up")]
    assert torch.allclose(fast(image).sigmoid(), wanted, atol=1e-5)


@torch.inference_mode()
def test_a_network_in_bf16_gives_nearly_the_same_odds_whole_and_in_pieces():
    network, image = trained(depth=3), torch.rand(1, 1, 32, 32, 32)
    wanted = network(image).softmax(1)[:, 1:]
    fast = for_inference(network, torch.bfloat16)
    whole = fast(image)
    assert whole.dtype == torch.bfloat16
    assert (whole.float().sigmoid() - wanted).abs().mean() < 0.01
    assert torch.equal(tiled_forward(fast, image, 4000), whole)
