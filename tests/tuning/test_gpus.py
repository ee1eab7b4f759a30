"""Shares of a GPU, by the memory of a step; work without a GPU sees none."""

import os

import pytest
import ray

from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.cluster import ray_cluster
from qcanet_monai.tuning.gpus import CONTEXT, MOST, SPARE, Measured, Packing, batch_shape, dry_run, share_of
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.trial import Plan

SPACE = {"channels": {"choices": [4, 8]}}


def packing(gpus=1.0, measured=None, **resources):
    study = Study.model_validate(
        {"bundle": "nsn", "space": SPACE, "starting_points": [{"channels": 8}], "resources": resources}
    )
    plan = Plan(Bundle.find("nsn"), {"patch_size": 32}, "iou", 3, threads=1)
    made = Packing(study, plan, gpus, [])
    if made.fixed is None:
        made.__dict__["measured"] = measured
    return made


@pytest.mark.parametrize(
    ("need", "share"),
    [
        (0, 1 / MOST),
        ((80e9 / 4 - CONTEXT) / SPARE, 1 / 4),
        ((80e9 / 4 - CONTEXT) / SPARE * 1.01, 1 / 3),
        ((80e9 / 2 - CONTEXT) / SPARE * 1.01, 1),
        (200e9, 1),
        (float("inf"), 1),
    ],
)
def test_as_many_trials_share_a_gpu_as_its_memory_holds(need, share):
    assert share_of(need, 80e9) == pytest.approx(share, abs=1e-4)


def test_a_larger_network_takes_a_larger_share():
    packed = packing(measured=Measured(peak=10e9, total=80e9))
    assert packed.share({"channels": 8}) == share_of(10e9, 80e9)
    small = packed._load({"channels": 4}) / packed._load({"channels": 8})
    assert 0.3 < small < 0.6  # half of the features
    assert packed.share({"channels": 4}) == share_of(small * 10e9, 80e9) < packed.share({"channels": 8})
    assert packed.packs
    assert packed.whole == 1


def test_given_gpus_are_taken_as_they_are_and_auto_needs_a_gpu():
    assert [packing(gpu=given).share({}) for given in (0, 0.5, 2)] == [0, 0.5, 2]
    assert [packing(gpu=given).whole for given in (0, 0.5, 2)] == [0, 1, 2]
    assert packing(gpus=0).share({}) == 0
    assert packing(measured=None).share({"channels": 8}) == 1  # not measured


def test_a_batch_has_the_patches_of_all_its_volumes():
    assert batch_shape({"batch_size": 2, "patches_per_volume": 3, "patch_size": 32}) == (6, 1, 32, 32, 32)
    assert batch_shape({"batch_size": 2, "window": [32, 96, 96]}) == (2, 1, 32, 96, 96)


@pytest.mark.skipif("CUDA_VISIBLE_DEVICES" in os.environ, reason="the machine hides its GPUs")
def test_a_dry_run_needs_a_gpu():
    import torch

    found = dry_run(packing().plan, {"channels": 4}, (32, 32, 32))
    assert (found is None) == (not torch.cuda.is_available())


@pytest.mark.slow
def test_work_without_a_gpu_sees_none_and_shares_are_packed(monkeypatch):
    from ray._private.accelerators import nvidia_gpu

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(
        nvidia_gpu.NvidiaGPUAcceleratorManager, "get_current_node_num_accelerators", lambda: 2
    )

    def visible():
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    with ray_cluster() as resources:
        assert resources["GPU"] == 2
        assert ray.get(ray.remote(num_cpus=1)(visible).remote()) == ""
        assert ray.get(ray.remote(num_cpus=1, num_gpus=0.5)(visible).remote()) in ("0", "1")
