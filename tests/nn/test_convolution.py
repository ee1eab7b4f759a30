"""Convolutions for inference: fewer bits, the same sums."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qcanet_monai.nn.convolution import Convolution, Image, _fuses, block_for_inference, rounded


def test_a_kernel_keeps_its_sum_in_fewer_bits():
    torch.manual_seed(0)
    exact = torch.randn(6, 5, 3, 3, 3)
    kept, plain = rounded(exact, torch.bfloat16), exact.bfloat16()
    off, plainly = ((w.double() - exact.double()).sum((2, 3, 4)).abs() for w in (kept, plain))
    assert kept.dtype == torch.bfloat16
    assert off.max() < exact.abs().max() * 2**-8
    assert off.mean() < plainly.mean() / 2
    assert ((kept.double() - exact.double()).abs() <= 2**-7 * exact.abs() + 2**-8 * exact.abs().max()).all()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_a_convolution_with_its_relu(dtype, relu):
    torch.manual_seed(0)
    trained = nn.Conv3d(4, 6, 3, padding=1)
    x = torch.rand(2, 4, 5, 6, 7)
    wanted = trained(x).relu() if relu else trained(x)
    found = Convolution(trained, dtype, relu=relu)(x.to(dtype))
    assert found.dtype == dtype
    assert torch.allclose(found.float(), wanted, atol=1e-6 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize(("name", "value"), [("_FUSED", None), ("_BF16", lambda: False)])
@torch.inference_mode()
def test_without_the_fused_operator_the_same_comes_out(monkeypatch, name, value):
    torch.manual_seed(0)
    trained = nn.Conv3d(4, 6, 3, padding=1)
    x, fast = torch.rand(1, 4, 5, 6, 7).bfloat16(), Convolution(trained, torch.bfloat16, relu=True)
    fused = fast(x)
    monkeypatch.setattr(f"qcanet_monai.nn.convolution.{name}", value)
    assert torch.allclose(fast(x).float(), fused.float(), atol=0.02)


@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_an_image_is_seen_as_exactly_as_features_are_given(bias):
    torch.manual_seed(0)
    trained = nn.Conv3d(1, 8, 3, padding=1, bias=bias)
    x = torch.rand(1, 1, 8, 8, 8)
    if bias and not _fuses(x.bfloat16()):
        pytest.skip("this processor's bf16 convolutions round the bias")
    found = Image(trained, torch.bfloat16)(x)
    assert found.dtype == torch.bfloat16
    # within half a rounding step of the output; with a rounded image or weights many values exceed it
    assert ((found.float() - trained(x)).abs() <= 2**-8 * trained(x).abs() + 1e-5).all()
    assert not (
        (Convolution(trained, torch.bfloat16)(x.bfloat16()).float() - trained(x)).abs()
        < 2**-8 * trained(x).abs()
    ).all()


def test_a_block_keeps_the_order_of_its_layers():
    trained = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Conv3d(1, 2, 3), nn.Identity(), nn.ReLU())
    block = block_for_inference(trained, torch.float32)
    assert [type(layer) for layer in block] == [nn.ReLU, Convolution]
    assert block[1].relu
    assert isinstance(block_for_inference(trained[2:], torch.bfloat16, image=True)[0], Image)
