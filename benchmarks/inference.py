"""Inference against the original, the machine's limit and a plain pass."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import reference
from benchmarks.simulate import fixed
from benchmarks.timing import Figure, figure, seconds
from qcanet_monai.bundle.bundle import SHIPPED as BUNDLES
from qcanet_monai.bundle.bundle import Bundle
from qcanet_monai.inference.predictor import Predictor
from qcanet_monai.inference.weights import load_weights
from qcanet_monai.io import Volume, write_volume
from qcanet_monai.nn.cost import cost_of
from qcanet_monai.nn.fusion import for_inference
from qcanet_monai.nn.unet import UNet3D
from qcanet_monai.segmentation.load import load_segmenter
from qcanet_monai.simulator.series import simulate_frame

SPACING = (1.75, 0.8, 0.8)
PAPER = {
    "nsn": {"depth": 2, "channels": 16, "kernel_size": 3},
    "ndn": {"depth": 4, "channels": 12, "kernel_size": 5},
}
SHIPPED = {"depth": 3, "channels": 8, "kernel_size": 3}
_MATRIX = 4096  # edge of the matrix product that defines the machine's limit


def embryo() -> NDArray[np.uint16]:
    """Simulate an embryo of 32 nuclei in 51 x 120 x 122 voxels."""
    image = simulate_frame((1,), settings=fixed()).image[:51, :120]
    return np.pad(image, ((0, 0), (0, 0), (0, 122 - image.shape[2])), mode="reflect")


def paper_bundle(name: str, folder: Path) -> tuple[Path, UNet3D]:
    """Make a bundle of the paper's network with random weights; return both."""
    target = folder / name
    shutil.copytree(BUNDLES / name, target, ignore=shutil.ignore_patterns("*.pt"))
    config = target / "configs" / "inference.yaml"
    text = config.read_text(encoding="utf-8")
    for key, value in {**PAPER[name], "max_diameter_voxels": "null", "min_size": 1, "threshold": 0.5}.items():
        text = re.sub(rf"^{key}: \S+", f"{key}: {value}", text, flags=re.MULTILINE)
    config.write_text(text.replace("method: soft", "method: min_max"), encoding="utf-8")
    torch.manual_seed(0)
    network = UNet3D(**PAPER[name]).eval()
    (target / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), target / "models" / "model.pt")
    return target, network


def reference_seconds(networks: list[UNet3D], image: NDArray[np.uint16], sampled: int | None) -> float:
    """Time the original's procedure; `sampled` patches stand for all 27."""
    nsn, ndn = networks
    if sampled is None:
        return seconds(lambda: reference.segment(nsn, ndn, image, SPACING))
    cubic = reference.isotropic(image, SPACING)
    volume, boxes = reference.padded(cubic), reference.patches(cubic.shape)
    chosen = boxes[:: len(boxes) // sampled][:sampled]
    patches = sum(seconds(lambda n=n, b=b: reference.see(n, volume[b])) for n in networks for b in chosen)
    region = reference.native(cubic > np.percentile(cubic, 95), len(image))
    rest = seconds(lambda: reference.isotropic(image, SPACING))
    rest += seconds(lambda: reference.instances(region, region, SPACING))
    return patches * len(boxes) / len(chosen) + rest


def whole(rounds: int, sampled: int | None) -> Iterator[Figure]:
    """Time array to labels against the reference, in the same round."""
    image = embryo()
    volume = Volume(image, SPACING, Path("embryo"))
    with tempfile.TemporaryDirectory() as folder:
        pairs = [paper_bundle(name, Path(folder)) for name in PAPER]
        bundles, networks = [bundle for bundle, _ in pairs], [network for _, network in pairs]
        fast = {
            "paper's networks, bf16": load_segmenter(nsn=bundles[0], ndn=bundles[1], precision="bf16"),
            "paper's networks, fp32": load_segmenter(nsn=bundles[0], ndn=bundles[1], precision="fp32"),
            "shipped networks, bf16": load_segmenter(precision="bf16"),
        }
        slow: list[float] = []
        took: dict[str, list[float]] = {name: [] for name in fast}
        for _ in range(rounds):
            slow.append(reference_seconds(networks, image, sampled))
            for name, segmenter in fast.items():
                segmenter(volume)  # warm up: the previous method has taken the memory
                times = 3 if name.startswith("shipped") else 1
                once = [seconds(lambda s=segmenter: s(volume)) for _ in range(times)]
                took[name].append(statistics.median(once))
    for (name, values), target in zip(took.items(), (28, 14, 250), strict=True):
        times = [s / v for s, v in zip(slow, values, strict=True)]
        yield figure(f"{name}: times faster than the original's procedure", times, target)
    yield figure("shipped networks, bf16: seconds", took["shipped networks, bf16"], 1.0, at_most=True)


def cold(rounds: int) -> Iterator[Figure]:
    """Time a fresh process from one file to labels and table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embryo.tif"
        write_volume(path, embryo(), spacing=SPACING)
        qcanet = Path(sys.executable).with_name("qcanet")
        command = [qcanet, "segment", path, "--out", Path(folder) / "out"]
        took = [
            seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(rounds)
        ]
    yield figure("cold start, one file to labels and table: seconds", took, 8.0, at_most=True)


def _plain(name: str, bundle: Path) -> UNet3D:
    sizes = PAPER[name] if bundle != BUNDLES / name else SHIPPED
    network = load_weights(UNet3D(**sizes), bundle / "models" / "model.pt")
    assert isinstance(network, UNet3D)
    return network.eval()


def _foreground(network: UNet3D, prepared: torch.Tensor) -> NDArray[np.bool_]:
    """Predict with the stored network in fp32: not fused, default memory layout."""
    size = prepared.shape[2:]
    flat = [v for n in reversed(size) for v in (0, -n % 2**network.depth)]
    with torch.inference_mode():
        logits = network(torch.nn.functional.pad(prepared, flat, mode="reflect"))[0]
    return np.asarray((logits[1] > logits[0])[tuple(slice(n) for n in size)])


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """IoU of two masks; 1 if both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def agreement() -> Iterator[Figure]:
    """Compare masks with those of a plain pass; the lower IoU of NSN and NDN."""
    image = embryo()
    with tempfile.TemporaryDirectory() as folder:
        paper = {name: paper_bundle(name, Path(folder))[0] for name in PAPER}
        for title, bundles in (
            ("paper's networks, random weights", paper),
            ("shipped networks", {name: BUNDLES / name for name in PAPER}),
        ):
            found: dict[str, list[float]] = {"bf16": [], "fp32": []}
            for name, bundle in bundles.items():
                fast = {precision: Bundle(bundle).predictor(precision=precision) for precision in found}
                prepared = fast["fp32"].preprocess(image, spacing=SPACING)
                plain = _foreground(_plain(name, bundle), prepared)
                for precision, predictor in fast.items():
                    found[precision].append(iou(predictor.predict_foreground(prepared) >= 0.5, plain))
            for precision, target in (("bf16", 0.999), ("fp32", 1 - 1e-6)):
                values = found[precision]
                row = f"{title}, {precision}: IoU of masks with a plain pass's"
                yield Figure(row, min(values), min(values), max(values), target)


def in_parts() -> Iterator[Figure]:
    """Compare a volume of 8 times the voxels in parts with one pass."""
    volume = Volume(np.tile(embryo(), (2, 2, 2)), SPACING, Path("embryos"))
    found = []
    for voxels in (10**9, None):
        segmenter = load_segmenter()
        for model in segmenter.predictors.values():
            if voxels and model:
                model.inferer.inferer.inferer.max_voxels = voxels
        found.append(segmenter(volume).labels)
    at_once, parts = found
    yield Figure(
        "8 times the voxels, in parts against at once: IoU", *[iou(at_once > 0, parts > 0)] * 3, 0.999
    )
    counts = [float(abs(int(at_once.max()) - int(parts.max())))]
    yield figure(
        "8 times the voxels, in parts against at once: nuclei more or fewer", counts, 0, at_most=True
    )


def operations(sizes: dict[str, int], shape: tuple[int, ...]) -> tuple[int, int]:
    """Count operations for a shape (Z, Y, X): the network's own, the fused network's."""
    multiple = 2 ** sizes["depth"]
    depth, height, width = (-(-n // multiple) * multiple for n in shape)
    own, done = (
        2 * cost_of(build, (depth, height, width))[1]
        for build in (lambda: UNet3D(**sizes), lambda: for_inference(UNet3D(**sizes)))
    )
    return own, done


def rate(rounds: int) -> Iterator[Figure]:
    """Compare the paper's networks with a matrix product, by operations per second.

    Both in bf16. Counts the networks' own operations; the row's name states the fused network's.
    """
    image = embryo()
    with tempfile.TemporaryDirectory() as folder:
        for name, target in (("nsn", 0.75), ("ndn", 0.88)):
            predictor = Bundle(paper_bundle(name, Path(folder))[0]).predictor(precision="bf16")
            prepared = predictor.preprocess(image, spacing=SPACING)
            own, done = operations(PAPER[name], prepared.shape[2:])
            predictor.predict(prepared)
            values = []
            for _ in range(rounds):
                peak = product_rate(predictor.device)
                passed = seconds(lambda p=predictor, x=prepared: p.predict(x))
                values.append(own / passed / peak)
            title = f"{name.upper()}, {own / 1e9:,.0f} GFLOP, reduced to {done / 1e9:,.0f}"
            yield figure(f"{title}: share of a bf16 matrix product's rate", values, target)


def limit(rounds: int) -> Iterator[Figure]:
    """Share of the time that a matrix product of equally many operations takes."""
    volume, segmenter = Volume(embryo(), SPACING, Path("embryo")), load_segmenter(precision="bf16")
    with mock.patch.object(Predictor, "predict", autospec=True, side_effect=Predictor.predict) as looks:
        segmenter(volume)
    shapes = [tuple(call.args[1].shape[2:]) for call in looks.call_args_list]
    done = sum(operations(SHIPPED, shape)[1] for shape in shapes)
    values, speeds = [], []
    for _ in range(3 * rounds):
        speeds.append(product_rate(next(iter(segmenter.predictors.values())).device))
        values.append(done / speeds[-1] / seconds(lambda: segmenter(volume)))
    title = f"shipped networks, {done / 1e9:,.0f} GFLOP where a bf16 product does"
    title = f"{title} {statistics.median(speeds) / 1e9:,.0f} a second"
    yield figure(f"{title}: share of the time that these take", values, 0.75)


def product_rate(device: torch.device) -> float:
    """Measure operations per second of a large bf16 matrix product."""
    edge = _MATRIX * (4 if device.type == "cuda" else 1)
    matrix = torch.randn(edge, edge, device=device).bfloat16()

    def multiply() -> None:
        # reading a value waits for the device
        (matrix @ matrix)[0, 0].item()

    multiply()
    return 2 * edge**3 / min(seconds(multiply) for _ in range(3))


def card(rounds: int) -> Iterator[Figure]:
    """Time the paper's networks on a GPU, and compare with its matrix product."""
    image = embryo()
    volume = Volume(image, SPACING, Path("embryo"))
    with tempfile.TemporaryDirectory() as folder:
        bundles = [paper_bundle(name, Path(folder))[0] for name in PAPER]
        segmenter = load_segmenter(nsn=bundles[0], ndn=bundles[1], precision="bf16")
        for _ in range(3):
            segmenter(volume)
        took = [seconds(lambda: segmenter(volume)) for _ in range(5 * rounds)]
    yield figure("paper's networks on a GPU, memory to labels: seconds", took, 0.15, at_most=True)
    yield from rate(rounds)
