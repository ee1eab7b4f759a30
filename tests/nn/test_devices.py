"""Precision and memory format."""

import platform
import resource

import numpy as np
import psutil
import pytest
import torch
from torch.testing import assert_close

from qcanet_monai.errors import ModelError
from qcanet_monai.nn.devices import PRECISIONS, autocast, channels_last, choose_precision, lasting
from qcanet_monai.nn.unet import UNet3D


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_named_precision_is_taken_as_it_is(name):
    assert choose_precision("cpu", name) == name


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "chosen"),
    [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")],
)
def test_auto_is_bf16_only_where_the_processor_multiplies_it(monkeypatch, avx512_bf16, amx, chosen):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision(torch.device("cpu")) == chosen


def test_an_unknown_precision_is_refused_with_the_known_ones():
    with pytest.raises(ModelError, match="auto, fp32, bf16, fp16, got 'int8'"):
        choose_precision("cpu", "int8")


def test_bf16_gives_nearly_the_logits_of_fp32():
    torch.manual_seed(0)
    network, image = UNet3D(channels=4).eval(), torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        with autocast("cpu", "fp32"):
            exact = network(image)
        with autocast("cpu", "bf16"):
            close = network(image)
    assert exact.dtype == torch.float32
    assert close.dtype == torch.bfloat16
    assert not torch.equal(close.float(), exact)
    assert (close.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_channels_last_changes_the_layout_and_not_the_logits():
    torch.manual_seed(0)
    network, image = UNet3D(channels=4).eval(), torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        before = network(image)
        after = channels_last(network, "cpu")(image)
    kernel = network.encoder[0][3].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last_3d)
    assert not kernel.is_contiguous()
    assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_freed_memory_comes_back_without_a_page_fault():
    channels_last(torch.nn.Identity(), "cpu")
    faults = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(2**27, np.uint8)  # freed at once; at least 64 of the largest pages
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert min(faults[1:]) < 16


def test_a_lasting_tensors_memory_goes_back_with_it():
    like = torch.zeros(1, 1, 1, 1, 1, dtype=torch.bfloat16)
    process = psutil.Process()
    before = process.memory_info().rss
    tensor = lasting((2, 8, 64, 128, 128), like)
    assert (tensor.shape, tensor.dtype) == ((2, 8, 64, 128, 128), torch.bfloat16)
    assert tensor.is_contiguous(memory_format=torch.channels_last_3d)
    tensor.fill_(1)
    assert (tensor == 1).all()
    size = tensor.numel() * 2
    assert process.memory_info().rss - before > 0.9 * size
    del tensor
    assert process.memory_info().rss - before < 0.6 * size  # the memory of the comparison is kept
