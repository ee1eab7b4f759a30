"""From light to counts: photons, electron multiplication, read noise, digitisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Kind = Literal["emccd", "linear"]


@dataclass(frozen=True)
class CameraSettings:
    """One recording's detector.

    `photons` is the mean photon number of a voxel of a typical interphase nucleus, `dark` that of the
    background; `gain` counts per photon; `offset` and `read_noise` in counts. An electron-multiplying
    register ("emccd") turns n photons into a Gamma(n, gain) variate, which doubles the variance of the
    shot noise (Robbins & Hadwen 2003) and gives the background its bright specks; "linear" stands for
    sCMOS cameras and photomultipliers. `smoothing` (voxels) stands for averaging done before saving.
    """

    kind: Kind = "emccd"
    photons: float = 12.0
    dark: float = 0.5
    gain: float = 22.0
    offset: float = 95.0
    read_noise: float = 3.0
    smoothing: float = 0.0
    bits: int = 16

    @classmethod
    def draw(cls, rng: np.random.Generator) -> CameraSettings:
        """Draw one recording's detector: over half of them electron-multiplying."""
        kind: Kind = "emccd" if rng.random() < 0.6 else "linear"
        return cls(
            kind=kind,
            photons=float(np.exp(rng.uniform(np.log(5), np.log(40 if kind == "emccd" else 120)))),
            dark=float(np.exp(rng.uniform(np.log(0.15), np.log(3)))),
            gain=rng.uniform(8, 40) if kind == "emccd" else rng.uniform(1, 12),
            offset=rng.uniform(0, 200),
            read_noise=rng.uniform(0.5, 8),
            smoothing=rng.uniform(0.4, 1.0) if rng.random() < 0.25 else 0.0,
        )


def record(
    light: NDArray[np.float32], settings: CameraSettings, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Counts (Z, Y, X) uint16 that the camera writes for `light` (1 = a typical interphase nucleus)."""
    photons = rng.poisson(light * np.float32(settings.photons) + np.float32(settings.dark))
    if settings.kind == "emccd":
        signal = rng.standard_gamma(photons.astype(np.float32), dtype=np.float32) * np.float32(settings.gain)
    else:
        signal = photons.astype(np.float32) * np.float32(settings.gain)
    signal += settings.offset + settings.read_noise * rng.standard_normal(light.shape, dtype=np.float32)
    if settings.smoothing:
        signal = ndi.gaussian_filter(signal, settings.smoothing)
    return np.clip(np.rint(signal), 0, 2**settings.bits - 1).astype(np.uint16)
