"""Segment fields without nuclei, and images with: python -m benchmarks.empty.

Noise and backgrounds of 12 kinds, and simulated images. Prints how many fields have no object or are doubted,
and how many images with nuclei are doubted.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from qcanet_monai.datasets.simulate import simulate_dataset
from qcanet_monai.io import Volume, read_volume
from qcanet_monai.io.names import list_images
from qcanet_monai.segmentation.load import load_segmenter

Rng = np.random.Generator
Field = NDArray[np.floating]
SHAPES = ((24, 96, 96), (40, 80, 80), (16, 128, 100))
SPACINGS = ((2.0, 0.8, 0.8), (1.0, 0.5, 0.5), (3.0, 0.6, 0.6))


def _smooth(rng: Rng, shape: tuple[int, ...], sigma: float) -> Field:
    field = ndi.gaussian_filter(rng.normal(0, 1, shape), sigma)
    return field / field.std()


def _poisson(rng: Rng, shape: tuple[int, ...]) -> Field:
    return rng.poisson(10 ** rng.uniform(-0.5, 3), shape).astype(float)


def _white(rng: Rng, shape: tuple[int, ...]) -> Field:
    return rng.normal(1000, 10 ** rng.uniform(0, 2), shape)


def _blurred(rng: Rng, shape: tuple[int, ...]) -> Field:
    return 1000 + 50 * _smooth(rng, shape, rng.uniform(0.5, 2.5))


def _camera(rng: Rng, shape: tuple[int, ...]) -> Field:
    """EM gain: a gamma distribution per photon, and read-out noise."""
    photons = rng.poisson(rng.uniform(0.1, 3), shape)
    return 95 + 22 * rng.gamma(np.maximum(photons, 1e-9)) + rng.normal(0, 3, shape)


def _gradient(rng: Rng, shape: tuple[int, ...]) -> Field:
    slopes = [np.linspace(0, rng.uniform(0, 200), n) for n in shape]
    light = sum(np.ix_(*slopes))
    return rng.poisson(50 + light).astype(float)


def _vignette(rng: Rng, shape: tuple[int, ...]) -> Field:
    y, x = np.linspace(-1, 1, shape[1])[:, None], np.linspace(-1, 1, shape[2])
    light = rng.uniform(50, 500) * np.exp(-(x**2 + y**2) / rng.uniform(0.5, 2))
    return rng.poisson(np.broadcast_to(light, shape)).astype(float)


def _haze(rng: Rng, shape: tuple[int, ...]) -> Field:
    light = 100 + 30 * _smooth(rng, shape, rng.uniform(10, 20))
    return rng.poisson(np.maximum(light, 1)).astype(float)


def _hot(rng: Rng, shape: tuple[int, ...]) -> Field:
    field = rng.poisson(30, shape).astype(float)
    field[rng.random(shape) < 10 ** rng.uniform(-5, -3)] = 4095
    return field


def _stripes(rng: Rng, shape: tuple[int, ...]) -> Field:
    return rng.normal(1000, 10, shape) + rng.normal(0, 10, (shape[0], shape[1], 1))


def _planes(rng: Rng, shape: tuple[int, ...]) -> Field:
    return rng.normal(1000, 10, shape) + rng.normal(0, 10, (shape[0], 1, 1))


def _dark(rng: Rng, shape: tuple[int, ...]) -> Field:
    return np.round(np.maximum(rng.normal(0, 0.7, shape), 0))


def _pink(rng: Rng, shape: tuple[int, ...]) -> Field:
    """Power falls with the frequency."""
    frequency = np.sqrt(sum(np.ix_(*(np.fft.fftfreq(n) ** 2 for n in shape))))
    frequency.flat[0] = 1
    field = np.fft.ifftn(np.fft.fftn(rng.normal(0, 1, shape)) / frequency ** rng.uniform(0.3, 1)).real
    return 1000 + 50 * field / field.std()


KINDS: tuple[Callable[[Rng, tuple[int, ...]], Field], ...] = (
    *(_poisson, _white, _blurred, _camera, _gradient, _vignette),
    *(_haze, _hot, _stripes, _planes, _dark, _pink),
)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=300)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    segmenter = load_segmenter()
    right = dict.fromkeys((kind.__name__.strip("_") for kind in KINDS), 0)
    asked = dict(right)
    for number in range(arguments.fields):
        rng = np.random.default_rng((arguments.seed, number))
        kind, which = KINDS[number % len(KINDS)], number // len(KINDS) % len(SHAPES)
        field = np.clip(kind(rng, SHAPES[which]), 0, 65_535).astype(np.uint16)
        found = segmenter(Volume(field, SPACINGS[which], Path("field")))
        name = kind.__name__.strip("_")
        asked[name] += 1
        right[name] += not found.labels.any() or bool(found.doubts)
        if found.labels.any() and not found.doubts:
            print(f"{name} {number}: {found.labels.max()} objects, {found.evidence}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        simulate_dataset(folder, embryos=arguments.images, timepoints=1, seed=arguments.seed, workers=2)
        images = list_images([Path(folder) / "Images/train/Images"])
        doubted = 0
        for image in images:
            found = segmenter(read_volume(image))
            doubted += bool(found.doubts)
            if found.doubts:
                print(f"{image.stem}: {found.labels.max()} objects, {found.doubts}", flush=True)
    print("\n| field | none found, or doubted |\n| --- | ---: |")
    for name, count in right.items():
        print(f"| {name} | {count} of {asked[name]} |")
    print(f"| all | {sum(right.values())} of {arguments.fields} |")
    print(f"\nDoubted images with nuclei: {doubted} of {len(images)}")


if __name__ == "__main__":
    main()
